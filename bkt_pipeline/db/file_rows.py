"""Parses the rows of a file of answers into numbers, and finds the rows to leave out or refuse."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bkt_pipeline.db.file_columns import Columns
from bkt_pipeline.db.file_faults import Fault, Faults
from bkt_pipeline.db.file_times import TimeParser
from bkt_pipeline.db.file_values import BAD, GRADE_FORMS, LONGEST_KEY, MISSING, Grades, Ids, SkillCells
from bkt_pipeline.errors import InvalidFile

if TYPE_CHECKING:
    from _csv import Reader as CsvReader


CHUNK = 10_000


TOO_LONG_TOGETHER = (
    f"skill_id, student_id and item_id together are longer than {LONGEST_KEY:,} bytes, too long for a Postgres "
    "index"
)


Integers = npt.NDArray[np.int64]


Record = tuple[int, list[str]]  # the line on which it begins, and its fields


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows to load, one for each skill of an answer, in the order of the file.

    Parameters
    ----------
    skill, student, item : int64 array, shape (n,)
        Codes of the ids.
    grade : int64 array, shape (n,)
        1 right, 0 wrong, -1 not graded yet.
    time : int64 array, shape (n,)
        Microseconds since 1970 UTC, or a position in the order.
    """

    skill: Integers
    student: Integers
    item: Integers
    grade: Integers
    time: Integers


class RowParser:
    """Parses the rows of one file, in one pass.

    Parameters
    ----------
    columns : Columns
    skill_separator : str
        Separates several skills in one cell; empty if each cell is one skill.
    """

    def __init__(self, columns: Columns, skill_separator: str) -> None:
        self.columns = columns
        self.skills = SkillCells(skill_separator)
        self.students = Ids("student_id")
        # Without an item column, each skill is one item.
        self.items: Ids = self.skills.ids if columns.item is None else Ids("item_id")
        self.times = TimeParser(columns.time_name)
        self.left_out: Counter[str] = Counter()
        self._grades = Grades()
        self._faults = Faults()

    def read(self, path: Path, reader: CsvReader) -> Rows:
        """The rows to load; `left_out` counts the others by reason.

        Raises
        ------
        InvalidFile
            Some rows are bad, or there is nothing to load.
        """
        records = self._records(reader)
        chunks = []
        while chunk := list(islice(records, CHUNK)):
            chunks.append(self._parse(chunk))
        self._faults.raise_if_any(path)
        if not chunks:
            raise InvalidFile(f"{path} has a header but no rows: there is nothing to load.")
        rows = Rows(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))
        if not rows.skill.size:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
            raise InvalidFile(f"{path} has no row that can be loaded; rows left out: {reasons}.")
        return rows

    def _records(self, reader: CsvReader) -> Iterator[Record]:
        """The records, without blank lines."""
        # A quoted field may contain newlines, so only the reader knows the line number.
        line = reader.line_num + 1
        try:
            for record in reader:
                if record:
                    yield line, record
                line = reader.line_num + 1
        except csv.Error as error:
            problem = f"is not CSV ({error}), perhaps because a quote is never closed; reading ends here"
            self._faults.add([Fault(line, problem)])

    def _parse(self, chunk: Sequence[Record]) -> tuple[Integers, ...]:
        """Skill, student, item, grade and time of a chunk's rows. Bad rows are recorded as faults."""
        width = self.columns.width
        whole = [(line, record) for line, record in chunk if len(record) == width]
        if len(whole) < len(chunk):
            self._faults.add(
                Fault(line, f"has {len(record)} fields where the header has {width}")
                for line, record in chunk
                if len(record) != width
            )
        if not whole:
            return (np.empty(0, np.int64),) * 5
        lines, records = zip(*whole, strict=True)
        return self._parse_cells(lines, list(zip(*records, strict=True)))

    def _parse_cells(self, lines: Sequence[int], cells: list[tuple[str, ...]]) -> tuple[Integers, ...]:
        columns = self.columns
        skill_cells = list(zip(*(cells[place] for place in columns.skills), strict=True))
        skills = [self.skills[row] for row in skill_cells]
        n_skills = np.fromiter(map(len, skills), np.int64, len(lines))
        student = _numbers(self.students, cells[columns.student])
        grade = _numbers(self._grades, cells[columns.is_correct])
        time, is_time = self.times(cells[0 if columns.time is None else columns.time])
        keep = self._choose(cells, n_skills, student)
        # From here on, an answer has one row for each of its skills.
        row = np.repeat(np.arange(len(lines)), n_skills)
        skill = np.fromiter(chain.from_iterable(skills), np.int64, row.size)[keep[row]]
        row = row[keep[row]]
        item = skill if columns.item is None else _numbers(self.items, cells[columns.item])[row]
        rows = Rows(skill, student[row], item, grade[row], time[row])
        found: dict[int, Fault] = {}

        def refuse(is_bad: npt.NDArray[np.bool_], fault: Callable[[int], Fault]) -> None:
            for index in row[is_bad].tolist():
                found.setdefault(lines[index], fault(index))

        def problem_of(ids: Mapping[Any, str], values: Sequence[Any]) -> Callable[[int], Fault]:
            return lambda index: Fault(lines[index], ids[values[index]])

        def value_of(name: str, place: int, expected: str) -> Callable[[int], Fault]:
            return lambda index: self._value_fault(lines[index], name, cells[place][index], expected)

        refuse(rows.skill == BAD, problem_of(self.skills.problems, skill_cells))
        refuse(rows.student == BAD, problem_of(self.students.problems, cells[columns.student]))
        if columns.item is not None:
            refuse(rows.item == MISSING, lambda index: Fault(lines[index], "item_id is empty"))
            refuse(rows.item == BAD, problem_of(self.items.problems, cells[columns.item]))
        refuse(rows.grade == BAD, value_of("is_correct", columns.is_correct, GRADE_FORMS))
        if columns.time is not None:
            refuse(~is_time[row], value_of(columns.time_name, columns.time, self.times.expected))
        if not found:
            refuse(self._is_long(rows), lambda index: Fault(lines[index], TOO_LONG_TOGETHER))
        if (rows.grade >= 0).any():
            self._faults.usable.add("is_correct")
        if is_time[row].any():
            self._faults.usable.add(columns.time_name)
        self._faults.add(found.values())
        return rows.skill, rows.student, rows.item, rows.grade, rows.time

    def _choose(
        self, cells: list[tuple[str, ...]], n_skills: Integers, student: Integers
    ) -> npt.NDArray[np.bool_]:
        """Which rows to keep; the others are counted by the first reason that applies."""
        keep = np.ones(n_skills.size, dtype=bool)
        reasons = [
            (f"whose {name} is not {wanted}", np.array([cell.strip() != wanted for cell in cells[place]]))
            for name, place, wanted in self.columns.only
        ]
        for reason, is_out in (
            *reasons,
            ("without a skill", n_skills == 0),
            ("without a student", student == MISSING),
        ):
            if n_out := int((keep & is_out).sum()):
                self.left_out[reason] += n_out
            keep &= ~is_out
        return keep

    def _value_fault(self, line: int, column: str, value: str, expected: str) -> Fault:
        if self.students.get(value, MISSING) >= 0:
            return Fault(line, f"{column} must be {expected}")
        return Fault(line, column=column, value=value, expected=expected)

    def _is_long(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which rows have three ids that are together longer than LONGEST_KEY."""
        if self.skills.ids.longest + self.students.longest + self.items.longest <= LONGEST_KEY:
            return np.zeros(rows.skill.size, dtype=bool)
        size = np.zeros(rows.skill.size, np.int64)
        for ids, codes in (
            (self.skills.ids, rows.skill),
            (self.students, rows.student),
            (self.items, rows.item),
        ):
            size += np.array(ids.sizes)[codes]
        too_long: npt.NDArray[np.bool_] = size > LONGEST_KEY
        return too_long


def _numbers(table: dict[str, int], cells: Sequence[str]) -> Integers:
    return np.fromiter(map(table.__getitem__, cells), np.int64, len(cells))
