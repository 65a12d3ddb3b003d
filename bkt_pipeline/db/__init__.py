"""Postgres: the platform's tables and our own.

All SQL is here, except that for stored windows (`windows`) and for Dagster's storage (`instance`). Nothing here
imports Dagster.
"""
