"""Assembly of everything Dagster knows of us; nothing else lives here."""

import dagster as dg

from bkt_pipeline.assets import active_skills, attempt_window, skill_bkt_params
from bkt_pipeline.automation import (
    active_skills_job,
    calibration_job,
    night_summary_job,
    nightly_bkt,
    nightly_irt,
    nightly_irt_job,
    start_shards,
)
from bkt_pipeline.io_managers import PostgresUpsertIOManager
from bkt_pipeline.item_assets import item_irt_params, item_summary
from bkt_pipeline.progress import Progress
from bkt_pipeline.resources import CalibrationSettings, ItemSettings, PlatformDatabase
from bkt_pipeline.sources import platform_tables
from bkt_pipeline.summary import nightly_summary


def build_definitions(
    progress: Progress | None = None, database: PlatformDatabase | None = None
) -> dg.Definitions:
    """The asset graph with its jobs and resources.

    `progress` is told how far a run is; where no `database` is given, each run opens one for itself.
    """
    database = database or PlatformDatabase()
    return dg.Definitions(
        assets=[
            *platform_tables,
            active_skills,
            attempt_window,
            skill_bkt_params,
            item_irt_params,
            item_summary,
            nightly_summary,
        ],
        jobs=[active_skills_job, calibration_job, nightly_irt_job, night_summary_job],
        schedules=[nightly_bkt],
        sensors=[start_shards, nightly_irt],
        resources={
            "database": database,
            "settings": CalibrationSettings(),
            "item_settings": ItemSettings(),
            "io_manager": PostgresUpsertIOManager(database=database),
            "progress": progress or Progress(),
        },
        executor=dg.in_process_executor,
    )


defs = build_definitions()
