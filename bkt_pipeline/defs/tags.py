"""The tags of a night's runs, and the times that they contain."""

import datetime as dt
from typing import Any

import dagster as dg

from bkt_pipeline.errors import InvalidSettings

SHARD_TAG = "bkt/shard"


FAILED_TAG = "bkt/failed"


CALIBRATED_TAG = "bkt/calibrated"


WILL_RETRY_TAG = "dagster/will_retry"


AUTO_RETRY_RUN_TAG = "dagster/auto_retry_run_id"


NIGHT_TAG = "bkt/night"


AS_OF_TAG = "bkt/as_of"


PARTITIONS_TAG = "bkt/partitions"  # on all of an installation's runs: the name of its partitions


DATABASE_TAG = "bkt/database"  # platform; embedded: the synthetic school, or what `load` put there; or none


REHEARSAL_TAG = "bkt/rehearsal"  # on the runs that publish nothing


RED_TAG = "bkt/red"  # and the asset's name, on a run with red checks: how many skills of each


PART_TAG = "bkt/part"  # on the runs of `nightly --skill`, which is not a whole night


COMMAND_TAG = "bkt/command"  # on the runs of `bkt-pipeline nightly`, which runs the whole night by itself

# By this tag the UI finds the runs of a job. A daemon must not retry the runs of a command.
COMMAND_TAGS = {
    COMMAND_TAG: "nightly",
    ".dagster/repository": "__repository__@bkt_pipeline",
    "dagster/max_retries": "0",
}

# Earlier than any platform's data, and late enough that every window begins after the year 1.
EARLIEST_AS_OF = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def night_tags(as_of: dt.datetime) -> dict[str, str]:
    """The tags that every run of a night carries."""
    moment = as_of.astimezone(dt.UTC)
    return {NIGHT_TAG: moment.date().isoformat(), AS_OF_TAG: moment.isoformat()}


def night_of(record: dg.RunRecord, settings: str = "settings") -> dt.datetime:
    """The as_of in the config of the run's `settings`, or its tag; without either, the time when it was created."""
    given = config_of(record, settings).get(settings, {}).get("config", {})
    value = given.get("as_of") or record.dagster_run.tags.get(AS_OF_TAG)
    return parse_moment(value) if value else record.create_timestamp.astimezone(dt.UTC)


def night_or_creation(record: dg.RunRecord, settings: str = "settings") -> dt.datetime:
    """The as_of of a run's night, or when the run was created if its tag is not a time: such a run fails."""
    try:
        return night_of(record, settings)
    except InvalidSettings:
        return record.create_timestamp.astimezone(dt.UTC)


def config_of(record: dg.RunRecord, *resources: str) -> dict[str, Any]:
    """The run's config of these resources; one without config is not in the result."""
    config: Any = record.dagster_run.run_config
    given = (config.get("resources") or {}) if isinstance(config, dict) else {}
    return {name: given[name] for name in resources if given.get(name)}


def parse_moment(value: str) -> dt.datetime:
    """An ISO 8601 date or time as an aware UTC datetime; without a time zone it is read as UTC.

    Raises
    ------
    InvalidSettings
        The value is not valid.
    """
    try:
        moment = dt.datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise InvalidSettings(
            f"as_of {value!r} is not an ISO 8601 time; use the form 2026-01-31 or 2026-01-31T07:00:00Z"
        ) from None
    if moment < EARLIEST_AS_OF:
        raise InvalidSettings(f"as_of {value!r} is before {EARLIEST_AS_OF.date()}; choose a later one")
    return moment
