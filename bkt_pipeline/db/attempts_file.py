"""Reads a file of answers into columns that are ready for a bulk load.

file_columns.py reads the header and file_rows.py the rows. Nothing here writes to a database.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from bkt_pipeline.db.file_columns import FileFormat, read_header
from bkt_pipeline.db.file_rows import RowParser, Rows
from bkt_pipeline.db.file_times import place_by_order
from bkt_pipeline.db.file_values import LONGEST_KEY
from bkt_pipeline.errors import InvalidFile, InvalidSettings

_GZIP = b"\x1f\x8b"


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
        Microseconds since 1970 UTC. Rows are in order of time; rows with equal times are in the order of the file.
    left_out : mapping
        The number of rows of the file that were left out, by reason.
    time_name : str
        Where the times come from: the column "created_at", the column "order", or "" for the order of the file. In
        the last two cases the times were placed before the load.
    changed_skills : int
        The number of skill ids that were changed so that Dagster accepts them as partition keys.
    """

    skills: tuple[str, ...]
    items: tuple[tuple[str, str], ...]
    student_id: npt.NDArray[np.object_]
    item_id: npt.NDArray[np.object_]
    is_correct: npt.NDArray[np.int8]
    created_us: npt.NDArray[np.int64]
    left_out: Mapping[str, int] = field(default_factory=dict)
    time_name: str = "created_at"
    changed_skills: int = 0

    def __len__(self) -> int:
        return int(self.is_correct.size)

    def left_out_by_reason(self) -> list[str]:
        """The rows that were left out, such as "12 without a skill"."""
        return [
            f"{rows:,} {reason.removesuffix('s') if rows == 1 else reason}"
            for reason, rows in self.left_out.items()
        ]


def read_attempts_file(path: Path, as_of: datetime, form: FileFormat | None = None) -> Attempts:
    """The answers in a delimited file, plain or gzipped. If any row is bad, nothing is returned.

    The header must have `skill_id`, `student_id` and `is_correct`. It may have `item_id`, and `created_at` or `order`.
    Columns may be in any order; others are ignored. `form` maps columns with other names.

    - `is_correct` is 1 or 0, true or false, correct or incorrect, right or wrong, or yes or no, in upper or lower
      case. `hint` counts as wrong. An empty cell means not graded yet.
    - `created_at` is ISO 8601, in UTC unless it names a zone. Without this column, the answers are placed within the
      day before `as_of`, by `order` (integers or dates) if there is one, else in the order of the file.
    - Without `item_id`, each skill is one item. If an item id occurs in several skills, the items are named
      `skill_id/item_id`.
    - Rows without a skill or a student and exact repeats are left out and counted. Repeats are rows with the same
      skill, student, item, answer and time. If the times are whole days or missing, repeats are kept.

    The file is read once from start to end, so it may be a pipe.

    Raises
    ------
    InvalidFile
        The file cannot be read, lacks a column, or has bad rows. The message gives the line numbers of bad rows.
    InvalidSettings
        `as_of` has no time zone.
    """
    if as_of.tzinfo is None:
        raise InvalidSettings(f"as_of {as_of.isoformat()} names no time zone; add one, such as +00:00.")
    form = form or FileFormat()
    try:
        with path.open("rb") as file, _open_text(file, form.codec) as lines:
            columns, reader = read_header(path, lines, form)
            parser = RowParser(columns, form.skill_separator)
            rows = parser.read(path, reader)
    except UnicodeError:
        raise InvalidFile(
            f"{path} is not in the encoding {form.encoding}: name another one with --encoding."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidFile(f"{path} cannot be read: {error or type(error).__name__}.") from error
    return _assemble(path, parser, rows, as_of)


def _open_text(file: io.BufferedReader, codec: str) -> io.TextIOWrapper:
    # A pipe cannot be rewound, so peek instead of reading. The first peek may return only one byte.
    start = file.peek(2)[:2]
    binary = gzip.GzipFile(fileobj=file) if start and _GZIP.startswith(start) else file
    # Bytes that are invalid in this encoding become lone surrogates, so that the message can name their line.
    return io.TextIOWrapper(cast(BinaryIO, binary), codec, errors="surrogateescape", newline="")


def _assemble(path: Path, parser: RowParser, rows: Rows, as_of: datetime) -> Attempts:
    # The load numbers the rows in this order, and the number orders rows with equal times.
    chosen = np.argsort(rows.time, kind="stable")
    left_out = dict(parser.left_out)
    if parser.times.tells_repeats(rows.time):
        repeats = _repeats(rows, chosen)
        if repeats.any():
            left_out["exact repeats"] = int(repeats.sum())
            chosen = chosen[~repeats]
    by_date = parser.times.column == "created_at"
    created_us = rows.time if by_date else place_by_order(rows.time, as_of)
    skills, items = parser.skills.ids, parser.items
    item_id, named_items = _name_items(path, rows, skills.names, items.names)
    return Attempts(
        skills=tuple(sorted(skills.names[code] for code in np.unique(rows.skill).tolist())),
        items=named_items,
        student_id=np.array(parser.students.names, dtype=object)[rows.student[chosen]],
        item_id=item_id[chosen],
        is_correct=rows.grade[chosen].astype(np.int8),
        created_us=created_us[chosen],
        left_out=left_out,
        time_name=parser.times.column,
        changed_skills=skills.changed,
    )


def _repeats(rows: Rows, in_time: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which rows, in order of time, have the same skill, student, item, answer and time as an earlier row."""
    # There are fewer combinations than rows squared, so they fit into 64 bits.
    _, pair = np.unique(rows.skill * (rows.item.max() + 1) + rows.item, return_inverse=True)
    answer = ((pair * (rows.student.max() + 1) + rows.student) * 3 + rows.grade + 1)[in_time]
    by_answer = np.argsort(answer, kind="stable")
    # The sort is stable, so equal answers stay in order of time and then in the order of the file.
    time = rows.time[in_time][by_answer]
    answer = answer[by_answer]
    repeats = np.zeros(time.size, dtype=bool)
    repeats[by_answer[1:]] = (time[1:] == time[:-1]) & (answer[1:] == answer[:-1])
    return repeats


def _name_items(
    path: Path, rows: Rows, skills: list[str], items: list[str]
) -> tuple[npt.NDArray[np.object_], tuple[tuple[str, str], ...]]:
    """The item of each row, and all items with their skills. Items are named so that no two skills share one."""
    width = len(items)
    pairs, pair_of_row = np.unique(rows.skill * width + rows.item, return_inverse=True)
    named = [(skills[pair // width], items[pair % width]) for pair in pairs.tolist()]
    names = [item for _, item in named]
    if len(set(names)) < len(names):
        names = [f"{skill}/{item}" for skill, item in named]
        _require_distinct(path, named, names)
        for (skill, _), name in zip(named, names, strict=True):
            if len(skill.encode()) + len(name.encode()) > LONGEST_KEY:
                raise InvalidFile(
                    f"{path} has item ids that occur in several skills, and one of the names skill_id/item_id that "
                    f"would distinguish them is too long for a Postgres index: use shorter ids."
                )
    by_skill = sorted((skill, name) for (skill, _), name in zip(named, names, strict=True))
    return np.array(names, dtype=object)[pair_of_row], tuple((name, skill) for skill, name in by_skill)


def _require_distinct(path: Path, named: list[tuple[str, str]], names: list[str]) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for pair, name in zip(named, names, strict=True):
        if seen.setdefault(name, pair) != pair:
            one, other = sorted((seen[name], pair))
            raise InvalidFile(
                f"{path} has item ids that occur in several skills, and skill_id/item_id is the same for "
                f"{one} and {other}: rename one of these items."
            )
