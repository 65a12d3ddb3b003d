"""Assembles the definitions of one installation."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from bkt_pipeline.defs.alarms import alarm_sensors
from bkt_pipeline.defs.assets.items import item_assets
from bkt_pipeline.defs.assets.platform import platform_tables
from bkt_pipeline.defs.assets.skills import skill_assets
from bkt_pipeline.defs.assets.summaries import summary_assets
from bkt_pipeline.defs.installation import IO_MANAGER, Installation
from bkt_pipeline.defs.io_manager import PostgresUpsertIOManager
from bkt_pipeline.defs.jobs import night_jobs
from bkt_pipeline.defs.launchpad import offered
from bkt_pipeline.defs.progress import Progress
from bkt_pipeline.defs.resources import CalibrationSettings, ItemSettings, PlatformDatabase, platform_database
from bkt_pipeline.defs.schedules import night_schedule
from bkt_pipeline.defs.sensors import items_sensor, shards_sensor
from bkt_pipeline.settings import DATABASE_URL


def build_definitions(
    progress: Progress | None = None,
    database: PlatformDatabase | None = None,
    *,
    partitions_name: str | None = None,
    key_prefix: str | Sequence[str] | None = None,
    group_name: str | None = None,
    cron: str | None = None,
    database_url_variable: str = DATABASE_URL,
    source_schema: str | None = None,
    estimator: str | None = None,
    sequences: str | None = None,
    window_days: int | None = None,
    min_attempts: int | None = None,
    items: Mapping[str, Any] | None = None,
    executor: dg.ExecutorDefinition | None = dg.in_process_executor,
) -> dg.Definitions:
    """The asset graph with its jobs and resources.

    Parameters
    ----------
    progress
        What runs report to.
    database
        The platform's database, if it is open already; otherwise each process opens its own.
    partitions_name
        The name of the partitions in Dagster; BKT_PARTITIONS if it is not given. Each installation in one Dagster needs its
        own, and so does a Dagster whose partitions `skill` are those of another team.
    key_prefix
        Goes before the keys of the assets and the names of the jobs, sensors, schedule, resources and partitions.
    group_name
        The group of all assets; otherwise `platform`, `calibration` and `items`.
    cron
        When the night starts, in UTC; otherwise `0 7 * * *`.
    database_url_variable
        The environment variable with the URL of the platform's database.
    source_schema
        The schema of the platform's tables; otherwise BKT_SOURCE_SCHEMA.
    estimator, sequences, window_days, min_attempts
        Settings of the skills, which replace the environment's in the schedule's nights too. A run's own config, from the
        launchpad or from an option of `nightly`, replaces both.
    items
        The same for the items: fields of `ItemSettings`.
    executor
        How chosen assets are executed, in the whole code location; None for Dagster's default. The jobs run in one process.

    Raises
    ------
    InvalidSettings
        A setting is invalid.
    """
    installation = Installation.named(partitions_name, key_prefix, group_name, cron)
    skills = {
        "estimator": estimator,
        "sequences": sequences,
        "window_days": window_days,
        "min_attempts": min_attempts,
    }
    given = {name: value for name, value in skills.items() if value is not None}
    database = database or platform_database(installation, database_url_variable, source_schema)
    resources = {
        "database": database,
        "settings": offered(CalibrationSettings, given),
        "item_settings": offered(ItemSettings, items or {}),
        IO_MANAGER: PostgresUpsertIOManager(database=database),
        "progress": progress or Progress(),
    }
    with warnings.catch_warnings():
        # Both parameters are in beta. They are used deliberately within a pinned minor version.
        for parameter in (
            "Parameter `backfill_policy` ",
            "Specifying a partitions_def on an AssetCheckSpec ",
        ):
            warnings.filterwarnings("ignore", message=parameter)
        assets = [*skill_assets(installation), *item_assets(installation), *summary_assets(installation)]
    jobs = night_jobs(installation)
    return dg.Definitions(
        assets=[*platform_tables(installation), *assets],
        jobs=list(jobs.values()),
        schedules=[night_schedule(installation)],
        sensors=[
            shards_sensor(installation),
            items_sensor(installation, jobs),
            *alarm_sensors(installation, jobs),
        ],
        resources={installation.name(name): resource for name, resource in resources.items()},
        executor=executor,
    )
