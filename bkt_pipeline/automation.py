"""What runs when: the partitions, the jobs and how a set of skills is cut into ranges. Decisions are pure functions."""

import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

# Both are used on purpose, within a pinned minor version; told once in a README they need not be told at every start.
for said in ("Parameter `backfill_policy` ", "Specifying a partitions_def on an AssetCheckSpec "):
    warnings.filterwarnings("ignore", message=said)

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"

# What Dagster refuses in a partition key.
REFUSED_IN_KEYS = ("...", "\a", "\b", "\f", "\n", "\r", "\t", "\v", "\0")

skill_partitions = dg.DynamicPartitionsDefinition(name="skill")

active_skills_job = dg.define_asset_job(
    "active_skills",
    selection=dg.AssetSelection.assets("active_skills"),
    description="Brings the partitions, one a skill, into step with the platform's active skills.",
)

calibration_job = dg.define_asset_job(
    "calibration",
    selection=dg.AssetSelection.assets("attempt_window", "skill_bkt_params"),
    description="Reads the window of each chosen skill and calibrates it.",
)


@dataclass(frozen=True)
class PartitionChange:
    """How the partitions must change to be the active skills."""

    added: list[str]
    retired: list[str]
    refused: list[str]


def partition_change(active: Collection[str], present: Collection[str]) -> PartitionChange:
    """Compare the active skills with the partitions that there are."""
    refused = {key for key in active if not key or any(part in key for part in REFUSED_IN_KEYS)}
    wanted = set(active) - refused
    return PartitionChange(
        added=sorted(wanted - set(present)), retired=sorted(set(present) - wanted), refused=sorted(refused)
    )


def ranges(chosen: Collection[str], store_order: Sequence[str], at_most: int) -> Iterator[tuple[str, str]]:
    """Cut the chosen keys into ranges that neighbour in the partition store's order, each of so many keys at most."""
    start = end = None
    count = 0
    for key in store_order:
        if key in chosen and count < at_most:
            start, end, count = start or key, key, count + 1
            continue
        if start is not None and end is not None:
            yield start, end
        start, end, count = (key, key, 1) if key in chosen else (None, None, 0)
    if start is not None and end is not None:
        yield start, end


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags that make a run cover the range of partitions."""
    return {RANGE_START: first, RANGE_END: last}
