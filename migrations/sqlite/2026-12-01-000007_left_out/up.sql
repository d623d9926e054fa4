-- Keep in step with migrations/postgres. What of a tunnel's row is left out of totals (the other end of the tunnel counts in its place):
-- of the endpoint's, and four times of the fleet's, 0 for nothing, 1 for all, 2 for an earlier part, 3 for a later one.
ALTER TABLE service_history ADD COLUMN left_out INTEGER NOT NULL DEFAULT 0;
ALTER TABLE history_hours ADD COLUMN left_out INTEGER NOT NULL DEFAULT 0;
ALTER TABLE history_days ADD COLUMN left_out INTEGER NOT NULL DEFAULT 0;
