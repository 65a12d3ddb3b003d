"""Dagster's own storage: its database, its event log, its runs.

Nothing here depends on skills; assets, jobs and sensors are in `defs`.
"""
