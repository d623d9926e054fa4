DROP TABLE history_imports;
