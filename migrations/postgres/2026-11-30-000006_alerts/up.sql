-- Keep in step with migrations/sqlite. What people were told of and is not over, so that a restart neither tells it again nor forgets
-- to tell its end. Written when an alert begins or ends. '' where an alert concerns no endpoint or no tunnel. Microseconds of UTC.
CREATE TABLE alerts (
    kind TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    since BIGINT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (kind, endpoint, instance_id)
);
