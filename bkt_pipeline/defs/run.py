"""What an asset asks about its own run: its partitions and its as_of."""

import datetime as dt

import dagster as dg

from bkt_pipeline.defs.partitions import SKILLS_TAG
from bkt_pipeline.defs.resources import CalibrationSettings


def chosen_keys(context: dg.AssetExecutionContext) -> list[str]:
    """The partitions that the run is for, in a fixed order.

    Raises
    ------
    dg.Failure
        There are none: the range is reversed or empty, or the run was started without a partition. Or they are
        others than the run was started for.
    """
    keys = (
        sorted(context.partition_keys) if context.has_partition_key or context.has_partition_key_range else []
    )
    if not keys:
        raise dg.Failure(
            "the run covers no skill: its range of partitions is empty or reversed (a skill that was retired and "
            "came back stands at the end of the order); choose the skills again",
            allow_retries=False,
        )
    told = context.run.tags.get(SKILLS_TAG)
    if told is not None and int(told) != len(keys):
        raise dg.Failure(
            f"the run was for {told} skills that a range of partitions can't name (this one has {len(keys)}); give "
            "them to `bkt-pipeline nightly --skill` again, or choose them in the UI",
            allow_retries=False,
        )
    return keys


def resolve_as_of(context: dg.AssetExecutionContext, settings: CalibrationSettings) -> dt.datetime:
    """The run's as_of, the same in each of its steps."""
    return settings.resolve_as_of(run_record(context))


def run_record(context: dg.AssetExecutionContext) -> dg.RunRecord:
    """What the instance knows of the run."""
    record = context.instance.get_run_record_by_id(context.run.run_id)
    assert record is not None
    return record
