ALTER TABLE service_history DROP COLUMN left_out;
ALTER TABLE history_hours DROP COLUMN left_out;
ALTER TABLE history_days DROP COLUMN left_out;
