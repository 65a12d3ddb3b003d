"""The materialisations and check evaluations of a run that are written together."""

import datetime as dt
import re
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import dagster as dg

EVENT_BATCH = 1000  # events in one statement
# In the text of an event.
DATA, TIMESTAMP = '"event_specific_data": ', '"timestamp": '

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
        event = event._replace(event_specific_data=data)
        self._append(model._replace(dagster_event=event, timestamp=time.time()))
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


def rows(
    events: Sequence[dg.EventLogEntry],
    row_of: Callable[[dg.EventLogEntry], dict[str, Any]],
    text_of: Callable[[Any], str],
) -> list[dict[str, Any]]:
    """The stored row of each event, as `row_of` makes it. What events have in common is serialised once.

    text_of
        Serialises an event's own data.
    """
    frames: dict[str, tuple[dg.EventLogEntry, dict[str, Any], list[str]]] = {}
    made = []
    for event in events:
        inner = event.get_dagster_event()
        frame = event._replace(timestamp=0.0, dagster_event=inner._replace(event_specific_data=None))
        if event.message not in frames or frames[event.message][0] != frame:
            # Neither is found elsewhere: quotation marks in a text are escaped.
            parts = re.split(rf"(?<={DATA})null|(?<={TIMESTAMP})0\.0", dg.serialize_value(frame))
            frames[event.message] = frame, row_of(event), parts
        _, row, (head, middle, tail) = frames[event.message]
        data = text_of(inner.event_specific_data)
        text = f"{head}{data}{middle}{event.timestamp!r}{tail}"
        moment = dt.datetime.fromtimestamp(event.timestamp, dt.UTC).replace(tzinfo=None)
        made.append(row | {"event": text, "timestamp": moment, "partition": inner.partition})
    return made
