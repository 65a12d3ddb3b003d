"""Dagster's own storage: its database, its event log, its runs.

Nothing here knows what a skill is; assets, jobs and sensors are in `defs`.
"""

from bkt_pipeline.instance.storage import dagster_instance

__all__ = ["dagster_instance"]
