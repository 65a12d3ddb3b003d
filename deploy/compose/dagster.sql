-- Dagster's storage is a database of its own.
CREATE DATABASE dagster;
