"""Assembles the Dagster definitions; nothing else belongs here."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from bkt_pipeline.defs.alarms import report_failed_night, report_late_night
from bkt_pipeline.defs.assets.items import item_irt_params
from bkt_pipeline.defs.assets.platform import platform_tables
from bkt_pipeline.defs.assets.skills import active_skills, attempt_window, skill_bkt_params
from bkt_pipeline.defs.assets.summaries import current_params, item_summary, nightly_summary
from bkt_pipeline.defs.io_manager import PostgresUpsertIOManager
from bkt_pipeline.defs.jobs import active_skills_job, calibration_job, night_summary_job, nightly_irt_job
from bkt_pipeline.defs.progress import Progress
from bkt_pipeline.defs.resources import CalibrationSettings, ItemSettings, PlatformDatabase, with_defaults
from bkt_pipeline.defs.schedules import nightly_bkt
from bkt_pipeline.defs.sensors import nightly_irt, start_shards


def build_definitions(
    progress: Progress | None = None,
    database: PlatformDatabase | None = None,
    *,
    estimator: str | None = None,
    sequences: str | None = None,
    window_days: int | None = None,
    min_attempts: int | None = None,
    items: Mapping[str, Any] | None = None,
) -> dg.Definitions:
    """The asset graph with its jobs and resources.

    Runs report to `progress`. Without a `database`, each process opens its own. The settings replace those of the
    environment, in the schedule's nights too; `items` are fields of `ItemSettings`. A run's own config, from the
    launchpad or from an option of `nightly`, replaces both.

    Raises
    ------
    InvalidSettings
        A setting is invalid.
    """
    skills = {
        "estimator": estimator,
        "sequences": sequences,
        "window_days": window_days,
        "min_attempts": min_attempts,
    }
    given = {name: value for name, value in skills.items() if value is not None}
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
            current_params,
        ],
        jobs=[active_skills_job, calibration_job, nightly_irt_job, night_summary_job],
        schedules=[nightly_bkt],
        sensors=[start_shards, nightly_irt, report_failed_night, report_late_night],
        resources={
            "database": database,
            "settings": with_defaults(CalibrationSettings, given),
            "item_settings": with_defaults(ItemSettings, items or {}),
            "io_manager": PostgresUpsertIOManager(database=database),
            "progress": progress or Progress(),
        },
        executor=dg.in_process_executor,
    )


defs = build_definitions()
