"""The materialisations and check evaluations of a run that are written together."""

from collections.abc import Callable, Hashable
from typing import Any

import dagster as dg

EVENT_BATCH = 1000  # events in one statement

# What an asset reports of a partition.
Reported = dg.AssetMaterialization | dg.AssetCheckEvaluation


class EventBatch:
    """Events of one step of a run.

    Dagster handles each event that an asset yields one by one, which takes longer than writing it. Within a step, two
    materialisations, or two evaluations of one check with the same result, differ in their data only. So an asset yields
    the first of each kind, and `add` copies it for the others.

    Parameters
    ----------
    write
        Writes the events to the storage.
    """

    def __init__(self, write: Callable[[list[dg.EventLogEntry]], object]) -> None:
        self._write = write
        self._held: list[dg.EventLogEntry] = []
        self._models: dict[Hashable, dg.EventLogEntry] = {}

    def hold(self, event: dg.EventLogEntry) -> None:
        """Hold an event that Dagster has made of what an asset yielded."""
        data: Any = event.get_dagster_event().event_specific_data
        self._models[_kind(getattr(data, "materialization", data))] = event
        self._append(event)

    def add(self, reported: Reported) -> bool:
        """Hold the event, if one of its kind has been yielded before. If not, the asset has to yield it."""
        model = self._models.get(_kind(reported))
        if model is None:
            return False
        event = model.get_dagster_event()
        data: Any = event.event_specific_data
        alone = isinstance(reported, dg.AssetCheckEvaluation)
        data = reported if alone else data._replace(materialization=reported)
        self._append(model._replace(dagster_event=event._replace(event_specific_data=data)))
        return True

    def flush(self) -> None:
        """Write what is held."""
        held, self._held = self._held, []
        if held:
            self._write(held)

    def _append(self, event: dg.EventLogEntry) -> None:
        self._held.append(event)
        if len(self._held) >= EVENT_BATCH:
            self.flush()


def _kind(reported: Reported) -> Hashable:
    """Events of one kind have the same message."""
    if isinstance(reported, dg.AssetMaterialization):
        return reported.asset_key, reported.description
    return reported.asset_key, reported.check_name, reported.passed, reported.description
