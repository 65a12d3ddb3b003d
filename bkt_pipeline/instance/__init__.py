"""Dagster's own storage: its database, its event log, its runs.

Nothing here depends on skills; assets, jobs and sensors are in `defs`.
"""

from bkt_pipeline.instance.storage import dagster_instance

__all__ = ["dagster_instance"]
