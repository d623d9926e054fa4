-- Keep in step with migrations/sqlite. What the database knows of how it is written: the mode, what was tuned while the recorder
-- ran, and what each mode cost. Times are microseconds.

-- One row per key that was set; a key without a row follows the configuration.
CREATE TABLE settings (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);

-- One row per mode that was in force, added up over restarts; written with the flushes.
CREATE TABLE mode_usage (
    mode TEXT PRIMARY KEY NOT NULL,
    time_us BIGINT NOT NULL,
    events BIGINT NOT NULL,
    rows BIGINT NOT NULL,
    single_transactions BIGINT NOT NULL,
    batch_transactions BIGINT NOT NULL,
    live_transactions BIGINT NOT NULL,
    other_transactions BIGINT NOT NULL,
    bytes BIGINT,
    database_us BIGINT NOT NULL,
    latency_us BIGINT NOT NULL,
    latency_max_us BIGINT NOT NULL,
    left_to_batch BIGINT NOT NULL,
    compared_since BIGINT,
    identical BIGINT NOT NULL,
    different BIGINT NOT NULL,
    missing_in_realtime BIGINT NOT NULL,
    missing_in_batch BIGINT NOT NULL
);
