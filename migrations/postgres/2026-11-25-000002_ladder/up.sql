-- Keep in step with migrations/sqlite: same names, same columns; tests/store_suite.rs compares the two.
-- History by the hour and by the day, totals of endpoints and of the fleet, and the accounts that prove that it adds up.

ALTER TABLE service_history ADD COLUMN ping_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE service_history ADD COLUMN covered_ms BIGINT NOT NULL DEFAULT 0;

CREATE TABLE history_hours (
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
    ping_count INTEGER NOT NULL,
    covered_ms BIGINT NOT NULL,
    PRIMARY KEY (endpoint_id, instance_id, record_time)
);

CREATE TABLE history_days (
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
    ping_count INTEGER NOT NULL,
    covered_ms BIGINT NOT NULL,
    zone_changed BOOLEAN NOT NULL,
    PRIMARY KEY (endpoint_id, instance_id, record_time)
);

-- endpoint_id 0 is the fleet. Apart from the rows of tunnels, so that no sum counts both.
CREATE TABLE history_minute_totals (
    endpoint_id INTEGER NOT NULL,
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
    ping_count INTEGER NOT NULL,
    covered_ms BIGINT NOT NULL,
    tunnels INTEGER NOT NULL,
    PRIMARY KEY (endpoint_id, record_time)
);

CREATE TABLE history_hour_totals (
    endpoint_id INTEGER NOT NULL,
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
    ping_count INTEGER NOT NULL,
    covered_ms BIGINT NOT NULL,
    tunnels INTEGER NOT NULL,
    PRIMARY KEY (endpoint_id, record_time)
);

CREATE TABLE history_day_totals (
    endpoint_id INTEGER NOT NULL,
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
    ping_count INTEGER NOT NULL,
    covered_ms BIGINT NOT NULL,
    tunnels INTEGER NOT NULL,
    zone_changed BOOLEAN NOT NULL,
    PRIMARY KEY (endpoint_id, record_time)
);

-- Per tunnel: days stored + open = risen + what counter_events say. What expires is taken out of `risen`.
CREATE TABLE history_accounts (
    endpoint_id INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    risen_tcp_rx BIGINT NOT NULL,
    risen_tcp_tx BIGINT NOT NULL,
    risen_udp_rx BIGINT NOT NULL,
    risen_udp_tx BIGINT NOT NULL,
    closing_tcp_rx BIGINT NOT NULL,
    closing_tcp_tx BIGINT NOT NULL,
    closing_udp_rx BIGINT NOT NULL,
    closing_udp_tx BIGINT NOT NULL,
    open_tcp_rx BIGINT NOT NULL,
    open_tcp_tx BIGINT NOT NULL,
    open_udp_rx BIGINT NOT NULL,
    open_udp_tx BIGINT NOT NULL,
    PRIMARY KEY (endpoint_id, instance_id)
);

-- Which time zone cut hours and days, and from which minute on.
CREATE TABLE history_zones (
    from_time BIGINT PRIMARY KEY NOT NULL,
    timezone TEXT NOT NULL
);

-- From when on the rows of a table are all there: what is older may have expired.
CREATE TABLE retention_floors (
    table_name TEXT PRIMARY KEY NOT NULL,
    floor BIGINT NOT NULL
);

-- What the step from before to after counted.
ALTER TABLE counter_events ADD COLUMN counted_tcp_rx BIGINT NOT NULL DEFAULT 0;
ALTER TABLE counter_events ADD COLUMN counted_tcp_tx BIGINT NOT NULL DEFAULT 0;
ALTER TABLE counter_events ADD COLUMN counted_udp_rx BIGINT NOT NULL DEFAULT 0;
ALTER TABLE counter_events ADD COLUMN counted_udp_tx BIGINT NOT NULL DEFAULT 0;

-- What is there already counts in UTC's hours and days, and in no total.
UPDATE service_history SET ping_count = record_count WHERE avg_ping IS NOT NULL;
INSERT INTO history_zones (from_time, timezone) SELECT 0, 'UTC' WHERE EXISTS (SELECT 1 FROM service_history);
INSERT INTO history_hours (endpoint_id, instance_id, record_time, delta_tcp_in, delta_tcp_out, delta_udp_in, delta_udp_out, avg_ping, min_ping,
    max_ping, avg_pool, avg_tcps, avg_udps, avg_speed_in, avg_speed_out, record_count, expected_count, ping_count, covered_ms)
SELECT
    endpoint_id, instance_id, record_time - record_time % 3600000000,
    CAST(SUM(delta_tcp_in) AS BIGINT), CAST(SUM(delta_tcp_out) AS BIGINT), CAST(SUM(delta_udp_in) AS BIGINT), CAST(SUM(delta_udp_out) AS BIGINT),
    SUM(avg_ping * ping_count) / NULLIF(SUM(ping_count), 0), MIN(min_ping), MAX(max_ping), MAX(avg_pool), MAX(avg_tcps),
    MAX(avg_udps), AVG(avg_speed_in), AVG(avg_speed_out), SUM(record_count), SUM(expected_count), SUM(ping_count), 0
FROM service_history GROUP BY endpoint_id, instance_id, record_time - record_time % 3600000000;
INSERT INTO history_days (endpoint_id, instance_id, record_time, delta_tcp_in, delta_tcp_out, delta_udp_in, delta_udp_out, avg_ping, min_ping,
    max_ping, avg_pool, avg_tcps, avg_udps, avg_speed_in, avg_speed_out, record_count, expected_count, ping_count, covered_ms, zone_changed)
SELECT
    endpoint_id, instance_id, record_time - record_time % 86400000000,
    CAST(SUM(delta_tcp_in) AS BIGINT), CAST(SUM(delta_tcp_out) AS BIGINT), CAST(SUM(delta_udp_in) AS BIGINT), CAST(SUM(delta_udp_out) AS BIGINT),
    SUM(avg_ping * ping_count) / NULLIF(SUM(ping_count), 0), MIN(min_ping), MAX(max_ping), MAX(avg_pool), MAX(avg_tcps),
    MAX(avg_udps), AVG(avg_speed_in), AVG(avg_speed_out), SUM(record_count), SUM(expected_count), SUM(ping_count), 0, FALSE
FROM service_history GROUP BY endpoint_id, instance_id, record_time - record_time % 86400000000;
INSERT INTO history_accounts
SELECT endpoint_id, instance_id, CAST(SUM(delta_tcp_in) AS BIGINT), CAST(SUM(delta_tcp_out) AS BIGINT), CAST(SUM(delta_udp_in) AS BIGINT), CAST(SUM(delta_udp_out) AS BIGINT), 0, 0, 0, 0, 0, 0, 0, 0
FROM service_history GROUP BY endpoint_id, instance_id;
-- Its form has changed: counting begins anew with the next sample.
DELETE FROM history_state;
