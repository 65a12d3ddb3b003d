"""Which partitions belong to an installation: those of the active skills, and how they follow them.

A set of partitions has one name in the whole Dagster instance, so another team may have put keys of its own under ours. We
keep two more sets of partitions, which no asset uses: the keys that our nights calibrate, and those of them that we added.
Nothing else is calibrated, and nothing else is deleted.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import dagster as dg

from bkt_pipeline.db.safe_keys import REFUSED_IN_KEYS
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.partitions import keys_in_use, store_order


@dataclass(frozen=True)
class PartitionChange:
    """How the partitions change to match the active skills.

    Attributes
    ----------
    added
        The active skills that had no partition.
    retired
        The partitions of skills that are no longer active.
    refused
        The active skills whose id Dagster does not take as a key.
    later
        Those that will be retired when the unfinished runs that need them have ended.
    others
        How many partitions of the same name somebody else added; no night calibrates them.
    """

    added: list[str]
    retired: list[str]
    refused: list[str]
    later: list[str] = field(default_factory=list)
    others: int = 0


def skill_keys(instance: dg.DagsterInstance, installation: Installation) -> list[str]:
    """The partitions that a night calibrates, in the order of Dagster's partition store.

    Until this version has registered the skills once, these are all partitions.
    """
    present = store_order(instance, installation)
    ours = _read(instance, _calibrated(installation))
    return [key for key in present if key in ours] if ours else present


def register(
    instance: dg.DagsterInstance, installation: Installation, active: Collection[str]
) -> PartitionChange:
    """Add a partition for each active skill, and delete those that we added for skills that are no longer active."""
    present = store_order(instance, installation)
    if not _read(instance, _calibrated(installation)):
        _adopt(instance, installation, active, present)
    ours, own = _read(instance, _calibrated(installation)), _read(instance, _added(installation))
    change = partition_change(active, present, ours)
    # Noted first: if this process is killed in between, the partitions are still known to be ours.
    _add(instance, _added(installation), change.added)
    _add(instance, _calibrated(installation), set(active) - set(change.refused) - ours)
    _add(instance, installation.partitions_name, change.added)
    in_use = keys_in_use(instance, installation) if change.retired else set()
    retired = [key for key in change.retired if key not in in_use]
    for key in retired:
        if key in own:
            instance.delete_dynamic_partition(installation.partitions_name, key)
            instance.delete_dynamic_partition(_added(installation), key)
        instance.delete_dynamic_partition(_calibrated(installation), key)
    others = len(store_order(instance, installation)) - len(skill_keys(instance, installation))
    later = [key for key in change.retired if key in in_use]
    return PartitionChange(change.added, retired, change.refused, later, others)


def partition_change(
    active: Collection[str], present: Collection[str], ours: Collection[str]
) -> PartitionChange:
    """Compare the active skills with the existing partitions and with those that are ours."""
    refused = {key for key in active if not key or any(part in key for part in REFUSED_IN_KEYS)}
    wanted = set(active) - refused
    return PartitionChange(
        added=sorted(wanted - set(present)), retired=sorted(set(ours) - wanted), refused=sorted(refused)
    )


def _adopt(
    instance: dg.DagsterInstance,
    installation: Installation,
    active: Collection[str],
    present: Collection[str],
) -> None:
    """Take over the partitions that a version before these sets added: active skills, or calibrated before."""
    if instance.get_latest_materialization_event(installation.key("active_skills")) is None:
        return
    calibrated = instance.get_latest_storage_id_by_partition(
        installation.key("skill_bkt_params"), dg.DagsterEventType.ASSET_MATERIALIZATION, set(present)
    )
    own = [key for key in present if key in calibrated or key in set(active)]
    _add(instance, _added(installation), own)
    _add(instance, _calibrated(installation), own)


def _calibrated(installation: Installation) -> str:
    return f"{installation.partitions_name} calibrated by bkt_pipeline"


def _added(installation: Installation) -> str:
    return f"{installation.partitions_name} added by bkt_pipeline"


def _read(instance: dg.DagsterInstance, name: str) -> set[str]:
    return set(instance.get_dynamic_partitions(name))


def _add(instance: dg.DagsterInstance, name: str, keys: Collection[str]) -> None:
    if keys:
        instance.add_dynamic_partitions(name, sorted(keys))
