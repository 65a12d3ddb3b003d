"""Filling an empty database: with a file of answers, or with the synthetic school.

The one place that writes source tables, which otherwise belong to the platform. It makes them only where
they are missing and fills them only where they are empty.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidFile, InvalidSettings

if TYPE_CHECKING:
    from _csv import Reader as CsvReader


CHUNK = 10_000


_SHOWN_PROBLEMS = 5


_LONGEST_ID = 200


# Answers placed by their order must all fall into the 30 days before as_of.
_LONGEST_SPAN = timedelta(days=29)


_ID_COLUMNS = ("skill_id", "student_id", "item_id")


_GRADES = {"": -1, "0": 0, "f": 0, "false": 0, "0.0": 0, "1": 1, "t": 1, "true": 1, "1.0": 1}


_ORDER = re.compile(r"(-?\d{1,18})(?:\.0+)?")


# Control characters, and the bytes that were no UTF-8 (see `_open`).
_UNFIT_FOR_ID = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, eq=False)
class Attempts:
    """Answers as columns, ready for a bulk load.

    Parameters
    ----------
    skills : tuple of str
        Ids of the skills.
    items : tuple of (id, skill_id)
    student_id, item_id : object array of str, shape (n,)
    is_correct : int8 array, shape (n,)
        1 right, 0 wrong, -1 not graded yet.
    created_us : int64 array, shape (n,)
        Microseconds since 1970 UTC; rows are in order of time, equal times in the order of the file.
    """

    skills: tuple[str, ...]
    items: tuple[tuple[str, str], ...]
    student_id: npt.NDArray[np.object_]
    item_id: npt.NDArray[np.object_]
    is_correct: npt.NDArray[np.int8]
    created_us: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.is_correct.size)


def read_attempts_file(path: Path, as_of: datetime) -> Attempts:
    """The answers in a CSV file, plain or gzipped; all of them are good, or none is returned.

    The header names `skill_id`, `student_id`, `item_id`, `is_correct` and `created_at` or `order`, in any
    order; other columns are ignored.

    - `is_correct` is 1, 0, true, false, t or f; empty for an answer that is not graded yet.
    - `created_at` is ISO 8601, in UTC where it names no zone.
    - `order` is an integer; the last answer is placed at `as_of`, the others as many seconds earlier as their
      order is smaller, or closer together where that would leave the 30 days before `as_of`.

    Where an item id occurs in several skills, items are told apart as `skill_id/item_id`.

    Raises
    ------
    InvalidFile
        The file cannot be read, lacks a column, or has bad rows; they are named by their line.
    InvalidSettings
        `as_of` names no time zone.
    """
    if as_of.tzinfo is None:
        raise InvalidSettings(f"as_of {as_of.isoformat()} names no time zone; add one, such as +00:00.")
    try:
        with _open(path) as lines:
            return _read(path, lines, as_of)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidFile(f"{path} cannot be read: {error or type(error).__name__}.") from error


def _open(path: Path) -> io.TextIOWrapper:
    with path.open("rb") as start:
        is_gzip = start.read(2) == b"\x1f\x8b"
    # Bytes that are no UTF-8 come through as lone surrogates, so that their line can be told.
    if is_gzip:
        return io.TextIOWrapper(gzip.GzipFile(path), "utf-8-sig", errors="surrogateescape", newline="")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


@dataclass
class _Problems:
    """What is wrong with the rows of a file: the first few, and how many there are."""

    shown: list[tuple[int, str]] = field(default_factory=list)
    count: int = 0

    def add(self, found: Mapping[int, str]) -> None:
        self.count += len(found)
        self.shown = sorted([*self.shown, *found.items()])[:_SHOWN_PROBLEMS]


@dataclass(frozen=True)
class _Columns:
    """Where in a row the columns lie that we read."""

    place: dict[str, int]
    width: int

    @property
    def time(self) -> str:
        return "created_at" if "created_at" in self.place else "order"


def _read(path: Path, lines: io.TextIOWrapper, as_of: datetime) -> Attempts:
    # Records can span lines where a quoted field holds a newline, so the reader's own count is the truth.
    reader = csv.reader(lines, strict=True)
    columns = _read_header(path, reader)
    problems = _Problems()
    records = _records(reader, problems)
    known: dict[str, str] = {}
    chunks = []
    while chunk := list(islice(records, CHUNK)):
        chunks.append(_parse(chunk, columns, problems, known))
    if problems.count:
        listed = "\n".join(f"  line {line}: {what}" for line, what in problems.shown)
        more = problems.count - len(problems.shown)
        raise InvalidFile(
            f"{path} has {problems.count:,} bad {'row' if problems.count == 1 else 'rows'}; "
            f"nothing was loaded:\n{listed}"
            + (f"\n  and {more:,} more" if more else "")
            + "\nCorrect or remove them, then load the file again."
        )
    if not chunks:
        raise InvalidFile(f"{path} has a header but no rows: there is nothing to load.")
    skill_id, student_id, item_id, is_correct, time = (
        np.concatenate(parts) for parts in zip(*chunks, strict=True)
    )
    created_us = time if columns.time == "created_at" else _times_from_order(time, as_of)
    item_id, items = _identify_items(path, skill_id, item_id)
    # The load numbers the rows as they come, and that number decides between equal times.
    in_time = np.argsort(created_us, kind="stable")
    return Attempts(
        tuple(sorted(set(skill_id))),
        items,
        student_id[in_time],
        item_id[in_time],
        is_correct[in_time],
        created_us[in_time],
    )


def _read_header(path: Path, reader: CsvReader) -> _Columns:
    try:
        header = [name.strip() for name in next(reader)]
    except StopIteration:
        raise InvalidFile(f"{path} is empty: there is nothing to load.") from None
    except csv.Error as error:
        raise InvalidFile(f"{path} is no CSV file: its first line cannot be read ({error}).") from error
    needed = (*_ID_COLUMNS, "is_correct", "created_at" if "created_at" in header else "order")
    if missing := [name for name in needed if name not in header]:
        found = ", ".join(repr(name[:40]) for name in header[:12]) or "an empty line"
        raise InvalidFile(
            f"{path} lacks the column {' and '.join(missing)}: its first line must be a comma-separated header "
            f"with {', '.join(_ID_COLUMNS)}, is_correct and created_at or order, in UTF-8. Found: {found}."
        )
    if twice := [name for name in needed if header.count(name) > 1]:
        raise InvalidFile(f"{path} has the column {' and '.join(twice)} twice: keep the one that is meant.")
    return _Columns({name: header.index(name) for name in needed}, len(header))


def _records(reader: CsvReader, problems: _Problems) -> Iterator[tuple[int, list[str]]]:
    """Each record that is no blank line, with the line on which it begins; ends where CSV itself ends."""
    line = reader.line_num + 1
    try:
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        problems.add(
            {line: f"is no CSV ({error}), perhaps for a quote that is never closed; reading ends here"}
        )


def _parse(
    chunk: Sequence[tuple[int, list[str]]], columns: _Columns, problems: _Problems, known: dict[str, str]
) -> tuple[npt.NDArray[Any], ...]:
    """The three ids, is_correct and the time of some records; values of bad rows, which are noted, mean nothing.

    `known` holds each id once, for a file repeats them in most rows.
    """
    bad: dict[int, str] = {}
    for line, record in chunk:
        if len(record) != columns.width:
            bad[line] = f"has {len(record)} fields where the header has {columns.width}"
    lines = [line for line, record in chunk if len(record) == columns.width]
    by_place = list(zip(*(record for _, record in chunk if len(record) == columns.width), strict=True))

    def values(name: str) -> Sequence[str]:
        return by_place[columns.place[name]] if lines else ()

    def refuse(name: str, why: Mapping[str, str | None]) -> None:
        if any(why.values()):
            for line, value in zip(lines, values(name), strict=True):
                if reason := why.get(value):
                    bad.setdefault(line, reason)

    ids = []
    for name in _ID_COLUMNS:
        refuse(name, {value: _trouble_with_id(name, value) for value in set(values(name))})
        ids.append(np.array([known.setdefault(value, value) for value in values(name)], dtype=object))
    grades = {value: _GRADES.get(value.strip().lower()) for value in set(values("is_correct"))}
    refuse(
        "is_correct",
        {
            value: f"is_correct is {_shown(value)}; it must be 1, 0, true, false, t, f or empty"
            for value, grade in grades.items()
            if grade is None
        },
    )
    is_correct = np.array([grades[value] or 0 for value in values("is_correct")], dtype=np.int8)
    parse_times = _parse_created_at if columns.time == "created_at" else _parse_order
    time, is_time = parse_times(values(columns.time))
    expected = "ISO 8601, such as 2026-01-31T09:30:00Z" if columns.time == "created_at" else "an integer"
    for index in np.flatnonzero(~is_time).tolist():
        value = values(columns.time)[index]
        bad.setdefault(lines[index], f"{columns.time} is {_shown(value)}; it must be {expected}")
    problems.add(bad)
    return (*ids, is_correct, time)


def _shown(value: str) -> str:
    return repr(value) if len(value) <= 40 else f"{value[:40]!r}…"


def _trouble_with_id(name: str, value: str) -> str | None:
    # A student's id is never shown.
    shown = "" if name == "student_id" else f" ({_shown(value)})"
    if not value.strip():
        return f"{name} is empty"
    if len(value) > _LONGEST_ID:
        return f"{name} is longer than {_LONGEST_ID} characters{shown}"
    if unfit := _UNFIT_FOR_ID.search(value):
        return f"{name} {'holds a control character' if unfit[0] < '~' else 'is no valid UTF-8'}{shown}"
    return None


def _parse_created_at(values: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    import pandas as pd  # half a second, which only a load needs

    stripped = [value.strip() for value in values]
    times = pd.to_datetime(
        pd.Series(stripped, dtype=object), format="ISO8601", utc=True, errors="coerce"
    ).dt.as_unit("us")
    # pandas reads "2026", "now" or 20260131 as times too, where a number may well be something else.
    is_date = np.array([len(value) >= 10 and value[4] == "-" for value in stripped], dtype=bool)
    return times.astype("int64").to_numpy(), is_date & times.notna().to_numpy()


def _parse_order(values: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    orders = [_ORDER.fullmatch(value.strip()) for value in values]
    return (
        np.array([int(order[1]) if order else 0 for order in orders], dtype=np.int64),
        np.array([order is not None for order in orders], dtype=bool),
    )


def _times_from_order(order: npt.NDArray[np.int64], as_of: datetime) -> npt.NDArray[np.int64]:
    seconds_before: npt.NDArray[np.int64] = order.max() - order
    span = int(seconds_before.max())
    longest = _LONGEST_SPAN // timedelta(seconds=1)
    if span <= longest:
        return microseconds(as_of) - seconds_before * 1_000_000
    return microseconds(as_of) - (seconds_before / span * longest * 1e6).astype(np.int64)


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _identify_items(
    path: Path, skill_id: npt.NDArray[np.object_], item_id: npt.NDArray[np.object_]
) -> tuple[npt.NDArray[np.object_], tuple[tuple[str, str], ...]]:
    """The item of each row, named so that no two skills share one, and all items with their skills."""
    pairs = sorted(set(zip(skill_id, item_id, strict=True)))
    if len({item for _, item in pairs}) == len(pairs):
        return item_id, tuple((item, skill) for skill, item in pairs)
    names = {(skill, item): f"{skill}/{item}" for skill, item in pairs}
    if len(set(names.values())) < len(pairs):
        seen: dict[str, tuple[str, str]] = {}
        one, other = next(
            (seen[name], pair) for pair, name in names.items() if seen.setdefault(name, pair) != pair
        )
        raise InvalidFile(
            f"{path} has item ids that occur in several skills, and skill_id/item_id does not tell "
            f"{one} from {other}: rename one of these items."
        )
    return (
        np.array([names[pair] for pair in zip(skill_id, item_id, strict=True)], dtype=object),
        tuple((names[skill, item], skill) for skill, item in pairs),
    )
