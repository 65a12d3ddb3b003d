"""Single answers as Python code hands them in, and a list of them as sequences.

Frozen, validated when they are made. Their repr and their errors never hold a student's id.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from numbers import Integral, Real
from struct import pack
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidAttempts

__all__ = ["AttemptObservation", "Id", "checked_answer", "checked_id"]

Id = str | int | UUID

_MISSING_AS_TEXT = ("nan", "NaN", "NaT", "None", "<NA>")  # what str() and pandas make of a missing id


@dataclass(frozen=True, slots=True)
class AttemptObservation:
    """One graded answer of one student.

    Parameters
    ----------
    student_id, skill_id : str, int or UUID
        Who answered, and what the item belongs to. NumPy's integers and strings are taken too.
    is_correct : bool
        Whether the answer was right; 0 and 1 are taken too, as any kind of number.
    timestamp : float
        When, in Unix seconds.

    Raises
    ------
    InvalidAttempts
        If the answer is not 0, 1 or a bool, the time is no finite number, or an id is missing (None, NaN, NaT,
        pandas.NA, blank, or the text of one of these) or of another type.

    Examples
    --------
    >>> AttemptObservation("s1", "fractions-add", True, 1767225600.0).is_correct
    True
    """

    student_id: Id
    skill_id: Id
    is_correct: bool
    timestamp: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "student_id", checked_id("student_id", self.student_id))
        object.__setattr__(self, "skill_id", checked_id("skill_id", self.skill_id))
        object.__setattr__(self, "is_correct", checked_answer("is_correct", self.is_correct))
        time: Any = self.timestamp
        if isinstance(time, bool) or not isinstance(time, Real) or not math.isfinite(time):
            raise InvalidAttempts(
                f"timestamp is {time!r}; give finite Unix seconds (for a datetime, its .timestamp())"
            )
        object.__setattr__(self, "timestamp", float(time))

    def __repr__(self) -> str:
        return f"AttemptObservation(skill_id={self.skill_id!r}, …)"


def checked_answer(name: str, value: Any) -> bool:
    """The answer as a bool.

    Raises
    ------
    InvalidAttempts
        If it is not 0, 1 or a bool; the message has the value.
    """
    if not isinstance(value, Real | np.bool_) or value not in (0, 1):
        raise InvalidAttempts(
            f"{name} is {value!r}; an answer is True, False, 1 or 0 "
            "(leave out an attempt that is not graded yet)"
        )
    return bool(value)


def checked_id(name: str, value: Any) -> Id:
    """The id as plain Python type.

    Raises
    ------
    InvalidAttempts
        If it is missing or of another type. The message never has an id.
    """
    if isinstance(value, str):
        if not value.strip() or value in _MISSING_AS_TEXT:
            raise InvalidAttempts(f"{name} is missing ({value!r}); give the id that the platform uses")
        return str(value)
    if isinstance(value, UUID):
        return value
    kind = type(value).__name__
    if isinstance(value, Integral) and kind != "bool":
        return int(value)
    if value is None or kind in ("NAType", "NaTType") or (isinstance(value, Real) and math.isnan(value)):
        raise InvalidAttempts(f"{name} is missing ({value}); give the id that the platform uses")
    # Not even a whole float: two large ids become equal as floats.
    raise InvalidAttempts(f"{name} is of type {kind}; give a str, an int or a UUID")


def sequences_of(
    attempts: Sequence[AttemptObservation],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Group a list of answers to one skill by student, each student's by time (equal times in list order).

    Parameters
    ----------
    attempts : sequence of AttemptObservation

    Returns
    -------
    responses, offsets
        As `AttemptWindow` takes them; students are in the order in which they first appear.

    Raises
    ------
    InvalidAttempts
        If the list is empty, holds something else, answers to several skills, or ids of different types that are the
        same text, such as 1 and "1". Attempts are numbered from 0, as in the list.
    """
    if not len(attempts):
        raise InvalidAttempts("no attempts; a skill needs at least one graded answer to be calibrated")
    if list(map(type, attempts)).count(AttemptObservation) < len(attempts):
        _refuse_others(attempts)
    if len({one.skill_id for one in attempts}) > 1:
        raise _several_skills([one.skill_id for one in attempts])
    students = [one.student_id for one in attempts]
    place: defaultdict[Id, int] = defaultdict(count().__next__)
    rows = np.fromiter(map(place.__getitem__, students), np.int64, len(students))
    # Different ids of one type are different as text.
    if len(set(map(type, place))) > 1 and len(set(map(str, place))) < len(place):
        raise _alike(students)
    # struct packs a list in half the time in which numpy reads it.
    times = np.frombuffer(pack(f"{len(students)}d", *[one.timestamp for one in attempts]))
    right = np.frombuffer(bytes([one.is_correct for one in attempts]), np.uint8)
    offsets = np.append(0, np.cumsum(np.bincount(rows)))
    moves = np.diff(rows)
    if (moves >= 0).all() and (np.diff(times)[moves == 0] >= 0).all():
        return right, offsets
    return right[np.lexsort((times, rows))], offsets


def _refuse_others(attempts: Sequence[object]) -> None:
    """Raise unless all are attempts, or of a class that inherits from it."""
    for number, attempt in enumerate(attempts):
        if not isinstance(attempt, AttemptObservation):
            kind = type(attempt).__name__
            raise InvalidAttempts(f"attempt number {number} is a {kind}; give AttemptObservation")


def _several_skills(skills: Sequence[Id]) -> InvalidAttempts:
    number = next(number for number, skill in enumerate(skills) if skill != skills[0])
    return InvalidAttempts(
        f"attempts of {len(set(skills))} skills: attempt number 0 is of {skills[0]!r}, attempt number {number} of "
        f"{skills[number]!r}; calibrate one skill at a time"
    )


def _alike(students: Sequence[Id]) -> InvalidAttempts:
    """The error for ids that are not equal but the same text: whether they mean one student is unknown."""
    seen: dict[str, int] = {}
    for number, student in enumerate(students):
        first = seen.setdefault(str(student), number)
        if students[first] != student:
            break
    kinds = f"{type(students[first]).__name__} and {type(student).__name__}"
    return InvalidAttempts(
        f"the student_ids of attempts number {first} and {number} are the same text, but of the types {kinds}; "
        "give all ids as one type"
    )
