"""Parses the cells of a file of answers into numbers: ids into codes, grades into 1, 0 and -1.

The tables here are dicts that map a cell to its number and fill themselves. Most cells of a file occur many times, so
each distinct cell is parsed once.
"""

from __future__ import annotations

import re

from bkt_pipeline.db.safe_keys import LONGEST_ID, partition_safe

# Codes of cells that are not an id or a grade.
MISSING, BAD = -1, -2


# The most bytes of one id, and of the three ids of a row together. A key of a Postgres btree index has at most 2,704
# bytes. Our indexes hold two ids; Dagster's hold a skill's id with the names of an asset and a check.
LONGEST_KEY = 2_600


GRADE_FORMS = (
    "1 or 0, true or false, correct or incorrect, right or wrong, yes or no, hint (which counts as wrong), "
    "or empty (not graded yet)"
)


# DataShop's error rate, the usual target of BKT, counts a first attempt that asks for a hint as an error:
# https://pslcdatashop.web.cmu.edu/help?page=learningCurve
_RIGHT = ("1", "1.0", "t", "true", "y", "yes", "right", "correct")
_WRONG = ("0", "0.0", "f", "false", "n", "no", "wrong", "incorrect", "hint")
_GRADES = {"": -1, **dict.fromkeys(_RIGHT, 1), **dict.fromkeys(_WRONG, 0)}


# How R, MySQL and pandas write a missing value.
_MISSING_FORMS = frozenset(
    ("NA", "N/A", "NULL", "null", "None", "nan", "NaN", "NaT", "<NA>", "\\N"),
)


# Control characters, and bytes that are invalid in the file's encoding (see `attempts_file._open_text`).
_UNFIT_FOR_ID = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Grades(dict[str, int]):
    """1 right, 0 wrong, -1 not graded yet, BAD for anything else."""

    def __missing__(self, cell: str) -> int:
        grade = self[cell] = _GRADES.get(cell.strip().lower(), BAD)
        return grade


class Ids(dict[str, int]):
    """The ids of one column, numbered from 0 in order of appearance; MISSING for an empty cell, BAD for a refused one.

    Parameters
    ----------
    column : str
        Name of the column, for messages.
    """

    def __init__(self, column: str) -> None:
        super().__init__()
        self.column = column
        self.names: list[str] = []
        self.sizes: list[int] = []
        self.problems: dict[str, str] = {}

    def __missing__(self, cell: str) -> int:
        if is_missing(cell):
            code = MISSING
        elif problem := self._problem(cell):
            code = BAD
            self.problems[cell] = problem
        else:
            code = self._number(cell)
        self[cell] = code
        return code

    @property
    def longest(self) -> int:
        """Bytes of the longest id so far."""
        return max(self.sizes, default=0)

    def _number(self, name: str) -> int:
        self.names.append(name)
        self.sizes.append(len(name.encode()))
        return len(self.names) - 1

    def _problem(self, cell: str) -> str:
        if unfit := _UNFIT_FOR_ID.search(cell):
            if unfit[0] < "\ud800":
                return f"{self.column} holds a control character"
            return (
                f"{self.column} is not valid in this encoding; name another with --encoding, such as latin-1"
            )
        if len(cell.encode()) > LONGEST_ID:
            return f"{self.column} is longer than {LONGEST_ID:,} bytes, too long for a Postgres index"
        return ""


class SkillIds(Ids):
    """Skills, which must also serve as partition keys in Dagster; "..." becomes "…"."""

    def __init__(self) -> None:
        super().__init__("skill_id")
        self.changed = 0
        self._codes: dict[str, int] = {}

    def _number(self, name: str) -> int:
        safe = partition_safe(name)
        self.changed += safe != name
        self._codes[safe] = super()._number(safe)
        return self._codes[safe]

    def _problem(self, cell: str) -> str:
        if partition_safe(cell) in self._codes:
            return 'skill_id contains "...", and the same id with "…" is another skill; Dagster refuses "..." in a key'
        return super()._problem(cell)


class SkillCells(dict[tuple[str, ...], tuple[int, ...]]):
    """The skills of a row by its skill cells: none, one, several, or (BAD,).

    Parameters
    ----------
    separator : str
        Separates several skills in one cell; empty if each cell is one skill.
    """

    def __init__(self, separator: str) -> None:
        super().__init__()
        self.ids = SkillIds()
        self.problems: dict[tuple[str, ...], str] = {}
        self._separator = separator

    def __missing__(self, cells: tuple[str, ...]) -> tuple[int, ...]:
        names = list(cells)
        if self._separator:
            names = [name.strip() for cell in cells for name in cell.split(self._separator)]
        codes = tuple(code for code in dict.fromkeys(self.ids[name] for name in names) if code != MISSING)
        if BAD in codes:
            self.problems[cells] = next(
                self.ids.problems[name] for name in names if name in self.ids.problems
            )
            codes = (BAD,)
        self[cells] = codes
        return codes


def is_missing(cell: str) -> bool:
    """Whether a cell is blank or has one of the forms in which other programs write a missing value."""
    value = cell.strip()
    return not value or value in _MISSING_FORMS
