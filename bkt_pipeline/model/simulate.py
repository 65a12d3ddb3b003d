"""Synthetic learners that follow the model exactly, so the true parameters behind their answers are known.

The results are deterministic: a seed gives the same bytes on every platform, because only uniform random numbers and
comparisons are used.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.model._curriculum import CURRICULUM, RETIRED
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.params import BktParams

__all__ = ["School", "SchoolSkill", "school", "simulate"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
_AS_OF_US = int(_AS_OF.timestamp()) * 1_000_000
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
SIMULATED_DAYS = 30


def simulate(
    params: BktParams,
    *,
    n_students: int,
    seed: int,
    lengths: int | Ints | None = None,
    skill_id: str = "simulated",
) -> AttemptWindow:
    """One skill's window, answered by students who follow the model with the given parameters.

    Parameters
    ----------
    params : BktParams
        The true parameters.
    n_students : int
        Number of students.
    seed : int
        Equal seeds give equal windows.
    lengths : int or int array of shape (n_students,), optional
        Number of attempts of each student. By default it is drawn from 1 to 60, around 8.
    skill_id : str
        Name of the skill.

    Returns
    -------
    AttemptWindow

    Raises
    ------
    InvalidSettings
        If `lengths` does not give each student at least one attempt.

    Examples
    --------
    >>> simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=100, seed=1, lengths=5)
    AttemptWindow(skill_id='simulated', 500 attempts, 100 students, as_of=2026-01-01T00:00:00+00:00)
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    if lengths is None:
        per_student = _lengths(rng, n_students)
    else:
        per_student = np.broadcast_to(np.asarray(lengths, np.int64), (n_students,))
        if n_students and per_student.min() < 1:
            raise InvalidSettings(
                f"lengths go down to {per_student.min()}; each student needs at least 1 attempt"
            )
    prior, transit, slip, guess = (np.full(n_students, value) for value in params.values)
    responses = _answers(rng, prior, transit, slip, guess, per_student)
    offsets = np.concatenate([[0], np.cumsum(per_student)]).astype(np.int64)
    # One second between answers, in parallel for all students; the model does not use the times.
    to_go = np.repeat(offsets[1:], per_student) - np.arange(responses.size)
    return AttemptWindow(
        skill_id,
        tuple(f"s{i:06d}" for i in range(n_students)),
        responses,
        _AS_OF_US - to_go * _SECOND,
        offsets,
        _AS_OF,
        SIMULATED_DAYS,
    )


@dataclass(frozen=True, slots=True)
class SchoolSkill:
    """A skill of the synthetic school and its true parameters."""

    id: str
    name: str
    active: bool
    params: BktParams


@dataclass(frozen=True, slots=True, eq=False)
class School:
    """A synthetic school, as columns ready for a bulk load.

    Parameters
    ----------
    skills : tuple of SchoolSkill
    items : tuple of (id, skill_id)
    student_id : str array, shape (n_attempts,)
    item_id : str array, shape (n_attempts,)
    is_correct : int8 array, shape (n_attempts,)
        1 right, 0 wrong, -1 not graded yet.
    age_us : int64 array, shape (n_attempts,)
        Microseconds before `as_of`, at most 29 days. Rows are sorted by time, oldest first, so that an increasing
        primary key preserves the order of answers with equal times.
    """

    skills: tuple[SchoolSkill, ...]
    items: tuple[tuple[str, str], ...]
    student_id: npt.NDArray[np.str_]
    item_id: npt.NDArray[np.str_]
    is_correct: npt.NDArray[np.int8]
    age_us: npt.NDArray[np.int64]

    @property
    def n_attempts(self) -> int:
        """Number of rows, graded or not."""
        return int(self.is_correct.size)

    def __repr__(self) -> str:
        return f"School({len(self.skills)} skills, {len(self.items)} items, {self.n_attempts} attempts)"


def school(seed: int = 1994) -> School:
    """A school of about 3,000 students and 65 skills: the demo's data.

    64 skills are active and one is not. Some have too few attempts to be calibrated, one has answers that are
    not graded yet, and two have answers with equal times.

    Parameters
    ----------
    seed : int
        Equal seeds give equal schools.

    Returns
    -------
    School

    Examples
    --------
    >>> school()
    School(65 skills, 985 items, 115083 attempts)
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    n_skills = len(CURRICULUM)
    skills = tuple(
        SchoolSkill(slug, name, slug != RETIRED, truth)
        for (slug, name), truth in zip(CURRICULUM, _truths(rng, n_skills), strict=True)
    )
    n_items = rng.integers(8, 21, n_skills)
    items = tuple(
        (f"{skill.id}-{number + 1:02d}", skill.id)
        for skill, how_many in zip(skills, n_items, strict=True)
        for number in range(how_many)
    )
    n_students = 60 + (rng.random(n_skills) ** 2 * 600).astype(np.int64)
    n_students[_FEW] = [1, 2, 3, 4, 5]
    who = np.concatenate([np.sort(rng.permutation(3000)[:n]) for n in n_students])
    skill_of = np.repeat(np.arange(n_skills), n_students)
    lengths = _lengths(rng, skill_of.size)
    truth = np.array([skill.params.values for skill in skills])[skill_of]
    answers = _answers(rng, truth[:, 0], truth[:, 1], truth[:, 2], truth[:, 3], lengths).astype(np.int8)

    n = answers.size
    of = np.repeat(np.arange(lengths.size), lengths)
    ends = np.cumsum(lengths)
    gaps = rng.integers(15 * _SECOND, 150 * _SECOND, n)
    since_first = np.cumsum(gaps)
    age = rng.integers(_DAY // 24, 28 * _DAY, lengths.size)[of] + (since_first[ends - 1][of] - since_first)
    attempt_skill = skill_of[of]
    item = (np.cumsum(n_items) - n_items)[attempt_skill] + (rng.random(n) * n_items[attempt_skill]).astype(
        np.int64
    )
    answers[(attempt_skill == _UNGRADED) & (rng.random(n) < 0.04)] = -1
    # A class test that is handed in on paper: all answers of a student have the time at which it was scanned.
    scanned = np.isin(attempt_skill, _SCANNED)
    age[scanned] -= age[scanned] % (10 * 60 * _SECOND)

    order = np.argsort(-age, kind="stable")
    names = np.array([f"s{i:06d}" for i in range(3000)])
    return School(
        skills,
        items,
        names[who[of[order]]],
        np.array([i for i, _ in items])[item[order]],
        answers[order],
        age[order],
    )


# Positions of the special skills in the curriculum.
_FEW = [11, 23, 37, 48, 59]
_UNGRADED = 6
_SCANNED = [3, 30]


def _truths(rng: np.random.Generator, n: int) -> list[BktParams]:
    """Realistic true parameters with two decimals, which may or may not be grid values."""
    draw = rng.random((n, 4))
    low = np.array([10, 6, 5, 10])
    span = np.array([60, 30, 16, 21])
    return [BktParams(*(int(value) / 100 for value in row)) for row in (low + draw * span).astype(np.int64)]


def _lengths(rng: np.random.Generator, n: int) -> Ints:
    """Number of attempts of each of n students: most make fewer than ten, a few make sixty."""
    stay = np.cumprod(np.full(59, 0.88))
    return 1 + np.searchsorted(-stay, -rng.random(n)).astype(np.int64)


def _answers(
    rng: np.random.Generator, prior: Floats, transit: Floats, slip: Floats, guess: Floats, lengths: Ints
) -> npt.NDArray[np.uint8]:
    """Answers of independent students in one flat array, student after student; each parameter is (n_students,)."""
    ends = np.cumsum(lengths)
    draw = rng.random((int(lengths.sum()), 2))
    known = rng.random(lengths.size) < prior
    out = np.empty(int(lengths.sum()), np.uint8)
    longest_first = np.argsort(-lengths, kind="stable")
    begins = (ends - lengths)[longest_first]
    prior, transit, slip, guess = (x[longest_first] for x in (prior, transit, slip, guess))
    known = known[longest_first]
    still = np.searchsorted(-lengths[longest_first], -np.arange(lengths.max(initial=0)) - 0.5)
    for attempt, n in enumerate(still):
        row = draw[begins[:n] + attempt]
        right = np.where(known[:n], 1.0 - slip[:n], guess[:n])
        out[begins[:n] + attempt] = row[:, 0] < right
        known[:n] |= row[:, 1] < transit[:n]
    return out
