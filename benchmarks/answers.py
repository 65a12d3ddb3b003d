"""The answers that `models.py` and `estimators.py` fit: real ones and simulated ones.

The real ones are the GLOP problem sets of the public repository CAHLR/pyBKT-examples, as one gzipped CSV file with the
columns skill_id, student_id, is_correct and order. BKT_GLOPS_FILE names the file.
"""

import csv
import gzip
import os
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bkt_pipeline.model import AttemptObservation, AttemptWindow, BktParams
from bkt_pipeline.model.attempts import sequences_of
from bkt_pipeline.model.simulate import school, simulate

GLOPS = Path(os.environ.get("BKT_GLOPS_FILE") or Path(__file__).parents[2] / "shared/data/glops42.csv.gz")
DAYS = 10  # of the windows; an attempt's order is its time in seconds
Windows = dict[str, AttemptWindow]


def grouped(attempts: Iterable[AttemptObservation]) -> Windows:
    """Make one window for each skill with at least 50 answers."""
    skills = defaultdict(list)
    for attempt in attempts:
        skills[str(attempt.skill_id)].append(attempt)
    end = datetime.fromtimestamp(DAYS * 86_400, UTC)
    return {
        skill: AttemptWindow(skill, *sequences_of(answers)[1:], end, DAYS)
        for skill, answers in sorted(skills.items())
        if len(answers) >= 50
    }


def glops(file: Path = GLOPS) -> Windows:
    with gzip.open(file, "rt", newline="") as text:
        rows = [(r["student_id"], r["skill_id"], r["is_correct"], r["order"]) for r in csv.DictReader(text)]
    return grouped(AttemptObservation(s, k, int(right), int(order) + 1) for s, k, right, order in rows)


def demo() -> Windows:
    """The active skills of the synthetic school that `bkt-pipeline nightly` calibrates if it has no database."""
    made = school()
    skill_of, active = dict(made.items), {skill.id for skill in made.skills if skill.active}
    answers = zip(made.student_id, made.item_id, made.is_correct.tolist(), strict=True)
    return grouped(
        AttemptObservation(str(student), skill_of[item], right, order + 1)
        for order, (student, item, right) in enumerate(answers)
        if right >= 0 and skill_of[item] in active
    )


def long_sequences() -> Windows:
    """942,000 attempts in 102 skills: a median of 8 for each student, at most 2,000, and half of the skills learn slowly."""
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
