"""The texts of materialisations, planned ones and check evaluations, as Dagster serialises them.

Dagster walks through each object, which takes a tenth of a millisecond for an evaluation and half of one for the
materialisation of a skill. Most of a text is the same for all skills, so Dagster makes it once.
"""

import json
import re
from collections.abc import Hashable, Sequence
from itertools import chain
from math import isfinite
from typing import Any

import dagster as dg

# What differs between events of one kind, beside the values of their metadata.
PARTITION, TARGET = "partition", "target_materialization_data"
VARYING = ("metadata", PARTITION, TARGET)
_PLACE = re.compile(r'"value ([0-9]+)"')

# The constant pieces of a text, and which of the varying values is between them.
Template = tuple[list[str], list[int]]


class EventTexts:
    """Makes the texts of the data of events, each equal to `dg.serialize_value(data)`."""

    def __init__(self) -> None:
        self._templates: dict[Hashable, Template | None] = {}
        self._around: dict[type, tuple[str, str]] = {}
        self._latest: tuple[Any, str] = (None, "null")  # target and its text

    def of(self, data: Any) -> str:
        """The text of an evaluation, or of what the event of a materialisation or of a planned one holds."""
        reported = getattr(data, "materialization", data)
        same = [getattr(reported, name) for name in reported._fields if name not in VARYING]
        metadata, target = getattr(reported, "metadata", {}), getattr(reported, TARGET, None)
        partition = reported.partition
        lineage: Sequence[Any] = getattr(data, "asset_lineage", ())
        kind = (type(reported), *same, *lineage, *metadata, partition is None, target is None)
        values = [self._value(value) for value in metadata.values()]
        values += json.dumps(partition), self._text_of_target(target)
        try:
            template = self._templates.get(kind)
        except TypeError:  # tags cannot be a key
            return dg.serialize_value(data)
        if kind not in self._templates:
            template = self._templates[kind] = _template(data, values)
        return dg.serialize_value(data) if template is None else _filled(template, values)

    def _value(self, value: Any) -> str:
        """The text of a metadata value."""
        kind, inner = type(value), value.value
        if type(inner) not in (str, int, float) or len(kind._fields) != 1:
            return dg.serialize_value(value)
        # The same as json.dumps, in a sixth of the time.
        text = repr(inner) if type(inner) is float and isfinite(inner) else json.dumps(inner)
        if kind not in self._around:
            whole = dg.serialize_value(value)
            if whole.count(text) != 1:
                return whole
            head, tail = whole.split(text)
            self._around[kind] = head, tail
        head, tail = self._around[kind]
        return f"{head}{text}{tail}"

    def _text_of_target(self, target: Any) -> str:
        """The text of the materialisation that an evaluation is about, which all checks of a skill share."""
        latest, text = self._latest
        if latest is not target:
            text = dg.serialize_value(target)
            self._latest = target, text
        return text


def _template(data: Any, values: Sequence[str]) -> Template | None:
    """The text of the data with places for the values; None if these, put in, do not give Dagster's text."""
    reported = getattr(data, "materialization", data)
    fields = {name: getattr(reported, name) for name in reported._fields}
    names = list(fields.get("metadata", {}))
    numbered = {name: dg.TextMetadataValue(f"value {n}") for n, name in enumerate(names)}
    fields[PARTITION] = f"value {len(names)}"
    if names:
        fields["metadata"] = numbered
    blank = type(reported)(**fields)
    text = dg.serialize_value(blank if reported is data else data._replace(materialization=blank))
    for n, value in enumerate(numbered.values()):
        text = text.replace(dg.serialize_value(value), f'"value {n}"')
    text = text.replace(f'"{TARGET}": {values[-1]}', f'"{TARGET}": "value {len(names) + 1}"')
    pieces = _PLACE.split(text)
    order = [int(number) for number in pieces[1::2]]
    template = pieces[::2], order
    # A text of the event, such as a name, can look like a place.
    clear = sorted(order) == list(range(len(order))) and len(order) <= len(values)
    return template if clear and _filled(template, values) == dg.serialize_value(data) else None


def _filled(template: Template, values: Sequence[str]) -> str:
    pieces, places = template
    return "".join(chain.from_iterable(zip(pieces, [*(values[place] for place in places), ""], strict=True)))
