"""The times of the answers in a file: its dates, or times shortly before the load if it has only an order."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

# Answers without dates are placed within this time before the load. It is short so that all of them stay in a 30-day
# window for four weeks.
LONGEST_SPAN = timedelta(days=1)


_ORDER = re.compile(r"(-?\d{1,18})(?:\.0+)?")


_DAY = 86_400_000_000


DATE_FORM = "ISO 8601, such as 2026-01-31T09:30:00Z"


Parsed = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


class TimeParser:
    """Parses the column that gives the order of the answers.

    Parameters
    ----------
    column : str
        "created_at": dates. "order": integers, or dates if the first value is a date. "": the order of the rows.
    """

    def __init__(self, column: str) -> None:
        self.column = column
        self._rows = 0
        self._parse: Callable[[Sequence[str]], Parsed] | None = None

    @property
    def expected(self) -> str:
        """What a value must be, for a message."""
        return "an integer" if self._parse is _parse_integers else DATE_FORM

    def __call__(self, cells: Sequence[str]) -> Parsed:
        """The times or positions of some rows as int64, and which of them could be parsed."""
        if not self.column:
            start, self._rows = self._rows, self._rows + len(cells)
            return np.arange(start, self._rows, dtype=np.int64), np.ones(len(cells), dtype=bool)
        if self._parse is None:
            by_date = self.column == "created_at" or _is_date(cells[0])
            self._parse = _parse_dates if by_date else _parse_integers
        return self._parse(cells)

    def tells_repeats(self, time: npt.NDArray[np.int64]) -> bool:
        """Whether equal times mean the same moment. They do not if the file has no times or only whole days."""
        return bool(self.column) and (self._parse is _parse_integers or bool((time % _DAY).any()))


def _is_date(cell: str) -> bool:
    # pandas also reads "2026", "now" or 20260131 as times, but a number may be something else.
    value = cell.strip()
    return len(value) >= 10 and value[4] == "-"


def _parse_dates(cells: Sequence[str]) -> Parsed:
    import pandas as pd  # takes half a second, and only a load needs it

    times = pd.to_datetime(
        pd.Series([cell.strip() for cell in cells], dtype=object), format="ISO8601", utc=True, errors="coerce"
    ).dt.as_unit("us")
    is_date = np.array([_is_date(cell) for cell in cells], dtype=bool)
    return times.astype("int64").to_numpy(), is_date & times.notna().to_numpy()


def _parse_integers(cells: Sequence[str]) -> Parsed:
    digits = "".join(cells)
    if digits.isascii() and digits.isdigit() and all(cells) and max(map(len, cells)) <= 18:
        return np.array(list(map(int, cells)), dtype=np.int64), np.ones(len(cells), dtype=bool)
    orders = [_ORDER.fullmatch(cell.strip()) for cell in cells]
    return (
        np.array([int(order[1]) if order else 0 for order in orders], dtype=np.int64),
        np.array([order is not None for order in orders], dtype=bool),
    )


def place_by_order(order: npt.NDArray[np.int64], as_of: datetime) -> npt.NDArray[np.int64]:
    """Times for answers with only a known order, in microseconds since 1970 UTC.

    The last one is placed at `as_of`. The others are a second apart, or closer if they would not fit into
    LONGEST_SPAN. Equal orders get equal times.
    """
    _, position = np.unique(order, return_inverse=True)
    before: npt.NDArray[np.int64] = (position.max() - position).astype(np.int64)
    longest = LONGEST_SPAN // timedelta(microseconds=1)
    step = min(1_000_000, longest // max(1, int(before.max())))
    return microseconds(as_of) - before * step
