"""The partitions, one per skill: which runs cover them, and how a set of them is cut into ranges."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import dagster as dg

from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.tags import SHARD_TAG
from bkt_pipeline.instance.runs import UNFINISHED_STATUSES, is_dead

RANGE_START = "dagster/asset_partition_range_start"


RANGE_END = "dagster/asset_partition_range_end"


SINGLE = "dagster/partition"


def store_order(instance: dg.DagsterInstance, installation: Installation) -> list[str]:
    """All partitions of the installation's name, in the order of Dagster's partition store, with any that others added."""
    return list(instance.get_dynamic_partitions(installation.partitions_name))


def ranges(chosen: Collection[str], order: Sequence[str], at_most: int) -> Iterator[tuple[str, str]]:
    """Cut the chosen keys into ranges of at most `at_most` keys that are adjacent in the partition store's order."""
    wanted = set(chosen)
    start = end = None
    count = 0
    for key in order:
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


def unfinished_skill_runs(instance: dg.DagsterInstance, installation: Installation) -> list[dg.DagsterRun]:
    """The installation's queued or running runs that cover at least one skill."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED_STATUSES))
    return [
        run
        for run in runs
        if (SINGLE in run.tags or RANGE_START in run.tags) and installation.owns(run) and not is_dead(run)
    ]


def keys_in_use(instance: dg.DagsterInstance, installation: Installation) -> set[str]:
    """The partitions of unfinished runs, which must not be deleted: a run whose partition is deleted fails."""
    order = store_order(instance, installation)
    return {key for run in unfinished_skill_runs(instance, installation) for key in keys_of(run.tags, order)}


def keys_of(tags: Mapping[str, str], order: Sequence[str]) -> Sequence[str]:
    """The partitions that a run's tags cover, out of all partitions in the store's order."""
    if SINGLE in tags:
        return [tags[SINGLE]]
    if tags[RANGE_START] not in order or tags[RANGE_END] not in order:
        # An end of the range was deleted, so Dagster can no longer execute the run.
        return []
    return order[order.index(tags[RANGE_START]) : order.index(tags[RANGE_END]) + 1]


def shards(keys: Collection[str], order: Sequence[str], at_most: int) -> list[dict[str, str]]:
    """The tags of the runs that together cover the `keys`, out of all partitions in the store's order."""
    pieces = list(ranges(keys, order, at_most))
    return [
        {**range_tags(first, last), SHARD_TAG: f"{number} of {len(pieces)}"}
        for number, (first, last) in enumerate(pieces, start=1)
    ]
