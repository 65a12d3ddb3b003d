"""The partitions, one per skill: how they follow the active skills, and how a set of them is cut into ranges."""

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from bkt_pipeline.defs.tags import SHARD_TAG
from bkt_pipeline.instance.runs import UNFINISHED_STATUSES, is_dead

# Both parameters are in beta. They are used deliberately within a pinned minor version, so the warnings are silenced.
for parameter in ("Parameter `backfill_policy` ", "Specifying a partitions_def on an AssetCheckSpec "):
    warnings.filterwarnings("ignore", message=parameter)


RANGE_START = "dagster/asset_partition_range_start"


RANGE_END = "dagster/asset_partition_range_end"


SINGLE = "dagster/partition"


PARTITIONS_NAME = "skill"
skill_partitions = dg.DynamicPartitionsDefinition(name=PARTITIONS_NAME)


def skill_keys(instance: dg.DagsterInstance) -> list[str]:
    """All partitions, in the order of Dagster's partition store."""
    return list(instance.get_dynamic_partitions(PARTITIONS_NAME))


@dataclass(frozen=True)
class PartitionChange:
    """How the partitions must change to match the active skills."""

    added: list[str]
    retired: list[str]


def partition_change(active: Collection[str], present: Collection[str]) -> PartitionChange:
    """Compare the active skills with the existing partitions."""
    return PartitionChange(
        added=sorted(set(active) - set(present)), retired=sorted(set(present) - set(active))
    )


def ranges(chosen: Collection[str], store_order: Sequence[str], at_most: int) -> Iterator[tuple[str, str]]:
    """Cut the chosen keys into ranges of at most `at_most` keys that are adjacent in the partition store's order."""
    wanted = set(chosen)
    start = end = None
    count = 0
    for key in store_order:
        if key in wanted and count < at_most:
            start, end, count = start or key, key, count + 1
            continue
        if start is not None and end is not None:
            yield start, end
        start, end, count = (key, key, 1) if key in wanted else (None, None, 0)
    if start is not None and end is not None:
        yield start, end


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags that make a run cover a range of partitions."""
    return {RANGE_START: first, RANGE_END: last}


def unfinished_skill_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """The queued or running runs that cover at least one skill."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED_STATUSES))
    return [run for run in runs if (SINGLE in run.tags or RANGE_START in run.tags) and not is_dead(run)]


def keys_in_use(instance: dg.DagsterInstance) -> set[str]:
    """The partitions of unfinished runs, which must not be deleted: a run whose partition is deleted fails."""
    order = skill_keys(instance)
    return {key for run in unfinished_skill_runs(instance) for key in keys_of(run.tags, order)}


def keys_of(tags: Mapping[str, str], order: Sequence[str]) -> Sequence[str]:
    """The partitions that a run's tags cover, out of all partitions in the store's order."""
    if SINGLE in tags:
        return [tags[SINGLE]]
    if tags[RANGE_START] not in order or tags[RANGE_END] not in order:
        # An end of the range was deleted, so Dagster can no longer execute the run.
        return []
    return order[order.index(tags[RANGE_START]) : order.index(tags[RANGE_END]) + 1]


def shards(keys: Sequence[str], at_most: int) -> list[dict[str, str]]:
    """The tags of the runs that together cover all `keys`, which must be in the partition store's order."""
    pieces = list(ranges(keys, keys, at_most))
    return [
        {**range_tags(first, last), SHARD_TAG: f"{number} of {len(pieces)}"}
        for number, (first, last) in enumerate(pieces, start=1)
    ]
