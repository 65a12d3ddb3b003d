"""The answers that `models.py` and `estimators.py` fit: real ones and simulated ones.

The real ones are the GLOP problem sets of the public repository CAHLR/pyBKT-examples, as one gzipped CSV file with the
columns skill_id, student_id, is_correct and order. BKT_GLOPS_FILE names the file.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from bkt_pipeline.frames import windows
from bkt_pipeline.model import AttemptWindow, BktParams
from bkt_pipeline.model.simulate import school, simulate

GLOPS = Path(os.environ.get("BKT_GLOPS_FILE") or Path(__file__).parents[2] / "shared/data/glops42.csv.gz")
Windows = dict[str, AttemptWindow]


def enough(answers: pd.DataFrame) -> Windows:
    """The windows of the skills with at least 50 answers."""
    return {skill: window for skill, window in windows(answers).items() if window.n_attempts >= 50}


def glops(file: Path = GLOPS) -> Windows:
    return enough(pd.read_csv(file, dtype={"skill_id": str, "student_id": str}))


def demo() -> Windows:
    """The active skills of the synthetic school that `bkt-pipeline nightly` calibrates if it has no database."""
    made = school()
    active = {skill.id for skill in made.skills if skill.active}
    skills = pd.Series(made.item_id).map(dict(made.items))
    answers = pd.DataFrame({"student_id": made.student_id, "skill_id": skills, "is_correct": made.is_correct})
    return enough(answers[(answers["is_correct"] >= 0) & answers["skill_id"].isin(active)])


def long_sequences() -> Windows:
    """942,000 attempts in 102 skills: a median of 8 for each student, at most 2,000, and half of the skills learn slowly."""
    rng = np.random.default_rng(1994)
    share = np.cumsum(rng.gamma(1.5, size=102))
    cuts = np.concatenate([[0], np.round(942_000 * share / share[-1])]).astype(int)
    made = {}
    for number, target in enumerate(np.diff(cuts)):
        lengths = np.minimum(np.ceil(8 * np.exp(1.4 * rng.standard_normal(target))), 2000).astype(np.int64)
        n_students = int(np.searchsorted(np.cumsum(lengths), target)) + 1
        lengths = lengths[:n_students]
        lengths[-1] -= lengths.sum() - target
        transit = rng.uniform(0.005, 0.05) if number % 2 else rng.uniform(0.05, 0.3)
        truth = BktParams(rng.uniform(0.1, 0.7), transit, rng.uniform(0.05, 0.2), rng.uniform(0.1, 0.3))
        name = f"long-{number:03}"
        made[name] = simulate(truth, n_students=n_students, seed=number, lengths=lengths, skill_id=name)
    return made


def about(fitted: Windows) -> str:
    lengths = np.concatenate([np.diff(window.offsets) for window in fitted.values()])
    attempts = sum(window.n_attempts for window in fitted.values())
    return (
        f"{attempts:,} attempts, {len(fitted)} skills, {lengths.size:,} sequences of {np.median(lengths):.0f} "
        f"in the median and {lengths.max():,} at most"
    )
