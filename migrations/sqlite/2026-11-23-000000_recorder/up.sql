-- Keep in step with migrations/postgres: same names, same columns; tests/store_suite.rs compares the two.
-- WITHOUT ROWID where the key is the row's place: one b-tree instead of two.
-- Times are microseconds of UTC. No default reads a clock.

CREATE TABLE endpoints (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    api_path TEXT NOT NULL,
    api_key TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    since BIGINT NOT NULL,
    last_check BIGINT,
    version TEXT,
    tls TEXT NOT NULL,
    paused BOOLEAN NOT NULL,
    log_events BOOLEAN,
    master_id TEXT UNIQUE,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- No index but the key and no foreign key: see docs/decisions.md.
CREATE TABLE endpoint_sse (
    id INTEGER PRIMARY KEY NOT NULL,
    event_type TEXT NOT NULL,
    event_time BIGINT,
    endpoint_id INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    status TEXT NOT NULL,
    tcp_rx BIGINT NOT NULL,
    tcp_tx BIGINT NOT NULL,
    udp_rx BIGINT NOT NULL,
    udp_tx BIGINT NOT NULL,
    tcps INTEGER,
    udps INTEGER,
    pool INTEGER,
    ping INTEGER,
    logs TEXT,
    detail TEXT
);

-- Wide; written when an operator changes something.
CREATE TABLE tunnel_config (
    endpoint_id INTEGER NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    instance_id TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    url TEXT NOT NULL,
    config_line TEXT NOT NULL,
    restart BOOLEAN,
    mode INTEGER,
    peer_sid TEXT NOT NULL,
    peer_type TEXT NOT NULL,
    peer_alias TEXT NOT NULL,
    tags TEXT NOT NULL,
    unknown_fields TEXT NOT NULL,
    last_event BIGINT NOT NULL,
    PRIMARY KEY (endpoint_id, instance_id)
) WITHOUT ROWID;

-- Narrow; written every few seconds while traffic flows.
CREATE TABLE tunnel_state (
    endpoint_id INTEGER NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    instance_id TEXT NOT NULL,
    status TEXT NOT NULL,
    tcp_rx BIGINT NOT NULL,
    tcp_tx BIGINT NOT NULL,
    udp_rx BIGINT NOT NULL,
    udp_tx BIGINT NOT NULL,
    tcps INTEGER,
    udps INTEGER,
    pool INTEGER,
    ping INTEGER,
    last_event_time BIGINT NOT NULL,
    last_event BIGINT NOT NULL,
    PRIMARY KEY (endpoint_id, instance_id)
) WITHOUT ROWID;

CREATE VIEW tunnels AS
SELECT
    s.endpoint_id, s.instance_id, c.name, c.type, s.status, s.tcp_rx, s.tcp_tx, s.udp_rx, s.udp_tx, s.tcps, s.udps, s.pool,
    s.ping, s.last_event_time, c.url, c.url AS command_line, c.config_line, c.restart, c.mode, c.peer_sid, c.peer_type,
    c.peer_alias, c.tags
FROM tunnel_state s
JOIN tunnel_config c ON c.endpoint_id = s.endpoint_id AND c.instance_id = s.instance_id;

CREATE TABLE service_history (
    endpoint_id INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    record_time BIGINT NOT NULL,
    delta_tcp_in BIGINT NOT NULL,
    delta_tcp_out BIGINT NOT NULL,
    delta_udp_in BIGINT NOT NULL,
    delta_udp_out BIGINT NOT NULL,
    avg_ping DOUBLE PRECISION,
    min_ping INTEGER,
    max_ping INTEGER,
    avg_pool INTEGER,
    avg_tcps INTEGER,
    avg_udps INTEGER,
    avg_speed_in DOUBLE PRECISION,
    avg_speed_out DOUBLE PRECISION,
    record_count INTEGER NOT NULL,
    expected_count INTEGER NOT NULL,
    PRIMARY KEY (endpoint_id, instance_id, record_time)
) WITHOUT ROWID;

-- What the history worker needs to go on after a restart, as JSON.
CREATE TABLE history_state (
    endpoint_id INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (endpoint_id, instance_id)
) WITHOUT ROWID;

CREATE TABLE counter_events (
    event_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    endpoint_id INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    time BIGINT NOT NULL,
    before_tcp_rx BIGINT NOT NULL,
    before_tcp_tx BIGINT NOT NULL,
    before_udp_rx BIGINT NOT NULL,
    before_udp_tx BIGINT NOT NULL,
    after_tcp_rx BIGINT NOT NULL,
    after_tcp_tx BIGINT NOT NULL,
    after_udp_rx BIGINT NOT NULL,
    after_udp_tx BIGINT NOT NULL,
    PRIMARY KEY (event_id, kind)
) WITHOUT ROWID;

CREATE TABLE gaps (
    id INTEGER PRIMARY KEY NOT NULL,
    endpoint_id INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    from_time BIGINT NOT NULL,
    to_time BIGINT NOT NULL,
    reason TEXT NOT NULL
);

-- One row for each batch that was committed, in the same transaction as the batch: that is what makes a batch be stored
-- once. `batch` is `events` or `history`; for history, first_id and last_id are the batch's own id.
CREATE TABLE flushes (
    id INTEGER PRIMARY KEY NOT NULL,
    batch TEXT NOT NULL,
    cause TEXT NOT NULL,
    boundary BIGINT,
    skipped_boundaries INTEGER NOT NULL,
    first_id BIGINT,
    last_id BIGINT,
    through_id BIGINT,
    first_received BIGINT,
    last_received BIGINT,
    rows BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    quarantined BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    cut_at BIGINT NOT NULL
);
CREATE INDEX flushes_first_id ON flushes (first_id);

-- Rows that the database refused, as JSON.
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY NOT NULL,
    event_id BIGINT NOT NULL,
    endpoint_id INTEGER NOT NULL,
    "row" TEXT NOT NULL,
    reason TEXT NOT NULL,
    time BIGINT NOT NULL
);
