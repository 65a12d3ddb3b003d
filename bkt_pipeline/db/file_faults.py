"""Collects the bad rows of a file: the first few with their lines, and how many there are.

Each line of a message shows at most one value, never a whole row and never an id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bkt_pipeline.errors import InvalidFile

_SHOWN = 5


_LONGEST_VALUE = 40


@dataclass(frozen=True, slots=True)
class Fault:
    """One bad row.

    Parameters
    ----------
    line : int
        The line of the file on which the row begins, counted from 1.
    problem : str
        What is wrong, if `value` is None.
    column, value, expected : str
        The column, its invalid value, and what the value must be.
    """

    line: int
    problem: str = ""
    column: str = ""
    value: str | None = None
    expected: str = ""

    def text(self, show_value: bool) -> str:
        """One line for the message. Pass `show_value=False` if the value may be a student's id."""
        if self.value is None:
            return self.problem
        if not show_value:
            return f"{self.column} must be {self.expected}"
        # repr escapes control characters, which a terminal would interpret.
        shown = repr(self.value[:_LONGEST_VALUE]) + ("…" if len(self.value) > _LONGEST_VALUE else "")
        return f"{self.column} is {shown}; it must be {self.expected}"


@dataclass
class Faults:
    """The faults of one file.

    Parameters
    ----------
    usable : set of str
        Columns in which some row had a usable value. A column without one is probably the wrong column, perhaps
        the students' ids, so none of its values is shown.
    """

    first: list[Fault] = field(default_factory=list)
    count: int = 0
    usable: set[str] = field(default_factory=set)

    def add(self, found: Iterable[Fault]) -> None:
        """Add faults, at most one for each row."""
        found = list(found)
        self.count += len(found)
        self.first = sorted([*self.first, *found], key=lambda fault: fault.line)[:_SHOWN]

    def raise_if_any(self, path: Path) -> None:
        """Refuse the file if any of its rows is bad.

        Raises
        ------
        InvalidFile
            There are bad rows. The message names the lines of the first few.
        """
        if not self.count:
            return
        wrong = {fault.column for fault in self.first if fault.value is not None} - self.usable
        if self.count == 1:
            wrong = set()
        lines = [f"  line {fault.line}: {fault.text(fault.column not in wrong)}" for fault in self.first]
        if self.count > len(self.first):
            lines.append(f"  and {self.count - len(self.first):,} more")
        advice = "Correct or remove them, then load the file again."
        if wrong:
            names = " and ".join(sorted(wrong))
            advice = (
                f"No row has a usable {names}. If it is in another column, name that one: "
                f"--column {min(wrong)}=NAME."
            )
        raise InvalidFile(
            f"{path} has {self.count:,} bad {'row' if self.count == 1 else 'rows'}; nothing was loaded:\n"
            + "\n".join(lines)
            + f"\n{advice}"
        )
