"""The tags of a night's runs, and the moments they hold."""

import datetime as dt

import dagster as dg

from bkt_pipeline.errors import InvalidSettings

SHARD_TAG = "bkt/shard"


FAILED_TAG = "bkt/failed"


CALIBRATED_TAG = "bkt/calibrated"


WILL_RETRY_TAG = "dagster/will_retry"


AUTO_RETRY_RUN_TAG = "dagster/auto_retry_run_id"


NIGHT_TAG = "bkt/night"


AS_OF_TAG = "bkt/as_of"


COMMAND_TAG = "bkt/command"  # on the runs of `bkt-pipeline nightly`, which runs the whole night by itself


def night_tags(as_of: dt.datetime) -> dict[str, str]:
    """The tags that every run of a night bears."""
    moment = as_of.astimezone(dt.UTC)
    return {NIGHT_TAG: moment.date().isoformat(), AS_OF_TAG: moment.isoformat()}


def night_of(record: dg.RunRecord) -> dt.datetime:
    """The as_of that the run's tag says, else when the run was created."""
    said = record.dagster_run.tags.get(AS_OF_TAG)
    return parse_moment(said) if said else record.create_timestamp.astimezone(dt.UTC)


def parse_moment(value: str) -> dt.datetime:
    """An ISO 8601 date or time as an aware UTC datetime; UTC where it names no zone.

    Raises
    ------
    InvalidSettings
        It is no such thing.
    """
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        raise InvalidSettings(
            f"as_of {value!r} is no ISO 8601 time; say it like 2026-01-31 or 2026-01-31T07:00:00Z"
        ) from None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
