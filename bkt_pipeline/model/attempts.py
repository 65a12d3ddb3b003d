"""A skill's window of answers, as the model takes it.

Frozen, validated when it is made, equal by value. Its repr never holds a student's id or an answer.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidAttempts

__all__ = ["SEQUENCES", "AttemptWindow"]

SEQUENCES = ("window", "from_first_answer")  # where a student's sequence may begin

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AttemptWindow:
    """The graded answers to one skill up to `as_of`, one sequence per student.

    Sequence number ``i`` is ``responses[offsets[i]:offsets[i + 1]]``.

    Parameters
    ----------
    skill_id : str
        The skill.
    student_ids : tuple of str, length n_students
        Whose sequence it is; distinct, in the order of the sequences.
    responses : uint8 array, shape (n_attempts,)
        1 for a right answer, 0 for a wrong one; each student's in the order they were given.
    answered_at : int64 array, shape (n_attempts,)
        Microseconds since the Unix epoch, never falling within a sequence.
    offsets : int64 array, shape (n_students + 1,)
        Where each sequence begins; strictly rising from 0 to n_attempts.
    as_of : datetime
        End of the window (belongs to it), with a time zone.
    window_days : int
        Length of the window; its beginning does not belong to it.
    ungraded : int
        Attempts that were left out because they are not graded yet.
    sequences : {"window", "from_first_answer"}
        Each begins with the student's first answer inside the window, or the first ever, which may be earlier.

    Raises
    ------
    InvalidAttempts
        If these do not fit together.

    Examples
    --------
    >>> from datetime import datetime, timezone
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    >>> us = int(noon.timestamp()) * 1_000_000
    >>> window = AttemptWindow("fractions-add", ("s1", "s2"), np.array([0, 1, 1], np.uint8),
    ...                        np.array([us - 9, us - 5, us - 7]), np.array([0, 2, 3]), noon, 30, 0)
    >>> window
    AttemptWindow(skill_id='fractions-add', 3 attempts, 2 students, as_of=2026-01-01T12:00:00+00:00)
    """

    skill_id: str
    student_ids: tuple[str, ...]
    responses: npt.NDArray[np.uint8]
    answered_at: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    as_of: datetime
    window_days: int
    ungraded: int = 0
    sequences: str = "window"

    def __post_init__(self) -> None:
        where = f"window of skill {self.skill_id!r}"
        responses = _vector(self.responses, np.uint8, "responses", where)
        answered_at = _vector(self.answered_at, np.int64, "answered_at", where)
        offsets = _vector(self.offsets, np.int64, "offsets", where)
        _check_sequences(responses, answered_at, offsets, len(self.student_ids), where)
        if len(set(self.student_ids)) != len(self.student_ids):
            raise InvalidAttempts(f"{where}: a student has two sequences; join a student's answers into one")
        if self.as_of.utcoffset() is None:
            raise InvalidAttempts(f"{where}: as_of {self.as_of.isoformat()} has no time zone; give it in UTC")
        if self.window_days < 1 or self.ungraded < 0:
            raise InvalidAttempts(
                f"{where}: window_days is {self.window_days} and ungraded {self.ungraded}; "
                "need at least 1 day, and no negative count"
            )
        if self.sequences not in SEQUENCES:
            raise InvalidAttempts(
                f"{where}: sequences is {self.sequences!r}; it must be one of {', '.join(SEQUENCES)}"
            )
        _check_times(answered_at, self.as_of, self.window_days, self.sequences, where)
        object.__setattr__(self, "responses", responses)
        object.__setattr__(self, "answered_at", answered_at)
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "student_ids", tuple(self.student_ids))

    @property
    def n_attempts(self) -> int:
        """Graded answers in the window."""
        return int(self.responses.size)

    @property
    def n_students(self) -> int:
        """Students with at least one graded answer."""
        return len(self.student_ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AttemptWindow):
            return NotImplemented
        return (
            all(
                getattr(self, name) == getattr(other, name)
                for name in ("skill_id", "student_ids", "as_of", "window_days", "ungraded", "sequences")
            )
            and np.array_equal(self.responses, other.responses)
            and np.array_equal(self.answered_at, other.answered_at)
            and np.array_equal(self.offsets, other.offsets)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"AttemptWindow(skill_id={self.skill_id!r}, {self.n_attempts} attempts, "
            f"{self.n_students} students, as_of={self.as_of.isoformat()})"
        )


def _vector(value: Any, dtype: type[np.generic], name: str, where: str) -> npt.NDArray[Any]:
    """A read-only copy of `value` as a vector of `dtype`, or a clear error."""
    array = np.asarray(value)
    if array.ndim != 1:
        raise InvalidAttempts(f"{where}: {name} has shape {array.shape}; it must be a vector")
    if array.dtype != dtype:
        exact = array.dtype == np.bool_ or np.issubdtype(array.dtype, np.integer)
        if array.size and not exact:
            raise InvalidAttempts(f"{where}: {name} is of {array.dtype}; give {np.dtype(dtype)}")
        if array.size and dtype is np.uint8 and not bool(((array == 0) | (array == 1)).all()):
            raise InvalidAttempts(
                f"{where}: {name} holds something else than 0 and 1; leave ungraded answers out"
            )
    array = np.array(array, dtype, order="C")
    array.flags.writeable = False
    return array


def _check_sequences(
    responses: npt.NDArray[np.uint8],
    answered_at: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    n_students: int,
    where: str,
) -> None:
    n = responses.size
    if n and responses.max() > 1:
        at = int(np.argmax(responses > 1))
        raise InvalidAttempts(f"{where}: response number {at} is {responses[at]}; an answer is 1 or 0")
    if answered_at.size != n:
        raise InvalidAttempts(
            f"{where}: {n} responses but {answered_at.size} times; give each answer its time"
        )
    if offsets.size != n_students + 1 or offsets[0] != 0 or offsets[-1] != n:
        raise InvalidAttempts(
            f"{where}: {offsets.size} offsets for {n_students} students and {n} answers; "
            "need n_students + 1 of them, from 0 to the number of answers"
        )
    lengths = np.diff(offsets)
    if lengths.size and lengths.min() < 1:
        raise InvalidAttempts(
            f"{where}: sequence number {int(np.argmax(lengths < 1))} is empty or ends before it begins; "
            "leave out a student without graded answers"
        )
    backwards = np.diff(answered_at) < 0
    if n_students > 1:
        backwards[offsets[1:-1] - 1] = False
    if backwards.any():
        raise InvalidAttempts(
            f"{where}: answer number {int(np.argmax(backwards)) + 1} is earlier than the one before it; "
            "sort each student's answers by time"
        )


def _check_times(
    answered_at: npt.NDArray[np.int64], as_of: datetime, days: int, sequences: str, where: str
) -> None:
    if not answered_at.size:
        return
    end = (as_of - _EPOCH) // _MICROSECOND
    begin = end - days * 86_400_000_000
    first, last = int(answered_at.min()), int(answered_at.max())
    if last > end or (sequences == "window" and first <= begin):
        raise InvalidAttempts(
            f"{where}: answers from {first} to {last} µs, but the window of {days} days up to "
            f"{as_of.isoformat()} is ({begin}, {end}]; leave out what is outside"
        )
