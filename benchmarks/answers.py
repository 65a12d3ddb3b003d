"""The answers that `models.py` compares fits on: real ones where they are beside the project, and simulated ones."""

import csv
import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bkt_pipeline.model import AttemptWindow, BktParams
from bkt_pipeline.model.simulate import school, simulate

Windows = dict[str, AttemptWindow]


def grouped(skills: np.ndarray, students: np.ndarray, right: np.ndarray, order: np.ndarray) -> Windows:
    """Rows of answers as one window a skill; leaves out a skill that the pipeline would skip."""
    _, student = np.unique(students, return_inverse=True)
    names, skill = np.unique(skills, return_inverse=True)
    rows = np.lexsort((order, student, skill))
    windows = {}
    for number, name in enumerate(names):
        mine = rows[np.searchsorted(skill[rows], number) : np.searchsorted(skill[rows], number, "right")]
        if mine.size >= 50:
            starts = np.flatnonzero(np.diff(student[mine], prepend=-1))
            windows[str(name)] = AttemptWindow(
                str(name),
                tuple(str(s) for s in student[mine][starts]),
                right[mine].astype(np.uint8),
                # Only the order counts: the first answer of all is a microsecond into the window.
                order[mine] + 1,
                np.append(starts, mine.size),
                datetime.fromtimestamp(86_400, UTC),
                1,
            )
    return windows


def glops(file: Path) -> Windows:
    with gzip.open(file, "rt", newline="") as text:
        rows = list(csv.DictReader(text))
    skill, student, right, order = (
        np.array([row[name] for row in rows]) for name in ("skill_id", "student_id", "is_correct", "order")
    )
    return grouped(skill, student, right.astype(int), order.astype(int))


def demo() -> Windows:
    """The active skills of the school that `bkt-pipeline nightly` makes where it finds no database."""
    made = school()
    active = {skill.id for skill in made.skills if skill.active}
    skill_of = dict(made.items)
    skill = np.array([skill_of[item] for item in made.item_id])
    graded = (made.is_correct >= 0) & np.isin(skill, list(active))
    order = np.arange(made.n_attempts)
    return grouped(skill[graded], made.student_id[graded], made.is_correct[graded], order[graded])


def long_sequences() -> Windows:
    """942,000 attempts in 102 skills, median 8 a student, a tail to 2,000; learning is slow in half of the skills."""
    rng = np.random.default_rng(1994)
    share = np.cumsum(rng.gamma(1.5, size=102))
    cuts = np.concatenate([[0], np.round(942_000 * share / share[-1])]).astype(int)
    windows = {}
    for number, target in enumerate(np.diff(cuts)):
        lengths = np.minimum(np.ceil(8 * np.exp(1.4 * rng.standard_normal(target))), 2000).astype(np.int64)
        n_students = int(np.searchsorted(np.cumsum(lengths), target)) + 1
        lengths = lengths[:n_students]
        lengths[-1] -= lengths.sum() - target
        transit = rng.uniform(0.005, 0.05) if number % 2 else rng.uniform(0.05, 0.3)
        truth = BktParams(rng.uniform(0.1, 0.7), transit, rng.uniform(0.05, 0.2), rng.uniform(0.1, 0.3))
        name = f"long-{number:03}"
        windows[name] = simulate(truth, n_students=n_students, seed=number, lengths=lengths, skill_id=name)
    return windows


def about(windows: Windows) -> str:
    lengths = np.concatenate([np.diff(window.offsets) for window in windows.values()])
    attempts = sum(window.n_attempts for window in windows.values())
    return (
        f"{attempts:,} attempts, {len(windows)} skills, {lengths.size:,} sequences of {np.median(lengths):.0f} "
        f"in the median and {lengths.max():,} at most"
    )
