"""Postgres: the embedded server, the schema, every statement. Knows no Dagster."""
