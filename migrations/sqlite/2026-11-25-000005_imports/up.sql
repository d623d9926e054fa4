-- How far the history of a tunnel was imported: a further import goes on from there, and adds nothing twice.
CREATE TABLE history_imports (
    endpoint_id INTEGER NOT NULL,
    instance_id TEXT NOT NULL,
    through BIGINT NOT NULL,
    PRIMARY KEY (endpoint_id, instance_id)
) WITHOUT ROWID;
