"""What an asset needs to know about its own run: its partitions and its as_of."""

import datetime as dt
from functools import partial

import dagster as dg

from bkt_pipeline.db.clock import refuse_future
from bkt_pipeline.db.database import Database
from bkt_pipeline.defs.resources import CalibrationSettings
from bkt_pipeline.errors import InvalidSettings


def chosen_keys(context: dg.AssetExecutionContext) -> list[str]:
    """The partitions that the run is for, in a fixed order.

    Raises
    ------
    dg.Failure
        The run has no partitions: its range is reversed or empty, or it was started without a partition.
    """
    keys = (
        sorted(context.partition_keys) if context.has_partition_key or context.has_partition_key_range else []
    )
    if not keys:
        raise dg.Failure(
            "the run covers no skill: its range of partitions is empty or reversed (a skill that was retired and "
            "came back is at the end of the order); choose the skills again",
            allow_retries=False,
        )
    return keys


def resolve_as_of(
    context: dg.AssetExecutionContext, settings: CalibrationSettings, database: Database
) -> dt.datetime:
    """The run's as_of, from its config or from its night; it is the same in all steps of the run.

    Raises
    ------
    dg.Failure
        The as_of is not a time, or in the future by the database's clock.
    """
    try:
        as_of = settings.resolve_as_of(run_record(context))
        database.run(partial(refuse_future, as_of=as_of))
    except InvalidSettings as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    return as_of


def run_record(context: dg.AssetExecutionContext) -> dg.RunRecord:
    """The instance's record of the run."""
    record: dg.RunRecord | None = context.instance.get_run_record_by_id(context.run.run_id)
    assert record is not None
    return record
