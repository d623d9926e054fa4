DROP TABLE mode_usage;
DROP TABLE settings;
