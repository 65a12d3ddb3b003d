"""Postgres: the platform's tables and our own.

Every statement on them is here, except those of stored windows (`windows`) and of Dagster's storage (`instance`).
No Dagster.
"""
