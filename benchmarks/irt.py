"""The item models: what they predict on held-out students, and how they recover simulated items.

    BKT_GLOPS_FILE=FILE python benchmarks/irt.py

FILE is a gzipped CSV with the columns skill_id, student_id, item_id, is_correct and order: the GLOP problem sets of the
public repository CAHLR/pyBKT-examples.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from bkt_pipeline.model import AttemptWindow, BktParams, calibrate, predict, replay
from bkt_pipeline.model.bkt.prediction import are_held_out
from bkt_pipeline.model.irt.answers import SkillAnswers
from bkt_pipeline.model.irt.comparison import ItemComparison, compare_items, pool_comparisons
from bkt_pipeline.model.irt.curve import ability, probability
from bkt_pipeline.model.irt.fits import ItemFlag
from bkt_pipeline.model.irt.items import calibrate_items, theta_by_replay
from bkt_pipeline.model.irt.offset import fit_offsets
from bkt_pipeline.model.irt.prior import SHIPPED_ITEM_PRIOR, ItemPrior, learn_item_prior
from bkt_pipeline.model.irt.two_pl import fit_items, item_moments

FOLDS = 5
School = list[SkillAnswers]
Theta = Callable[[SkillAnswers, BktParams], np.ndarray]
ROWS = ("success rate", "2PL on P(known), as before", "2PL, shipped prior", "2PL, school's prior", "offset")


def glops() -> School:
    """One entry per skill, with each student's answers in order."""
    text = dict.fromkeys(("skill_id", "student_id", "item_id"), str)
    read = pd.read_csv(os.environ["BKT_GLOPS_FILE"], dtype=text)
    rows = list(
        zip(
            *(read[name] for name in ("skill_id", "student_id", "order", "item_id", "is_correct")),
            strict=True,
        )
    )
    made = []
    for name in sorted({row[0] for row in rows}):
        mine = sorted(row for row in rows if row[0] == name)
        students = [row[1] for row in mine]
        starts = [place for place in range(len(mine)) if place == 0 or students[place] != students[place - 1]]
        names, items = np.unique([row[3] for row in mine], return_inverse=True)
        right, offsets = np.array([row[4] for row in mine], np.uint8), np.array([*starts, len(mine)])
        held_out = are_held_out([students[place] for place in starts])
        made.append(SkillAnswers(name, tuple(map(str, names)), items, right, offsets, held_out=held_out))
    return made


def simulated(n_skills: int = 25, n_items: int = 40, n_students: int = 50, length: int = 8) -> School:
    """Realistic skills, whose items shift the logit of P(right) by d in both states."""
    rng = np.random.default_rng(1)
    n, made = n_students * FOLDS // (FOLDS - 1), []
    while len(made) < n_skills:
        logits = rng.normal([0.12, -2.83, -1.41, -1.0], [1.4, 1.8, 0.75, 0.7])
        prior, transit, slip, guess = probability(logits, 1, 0)
        if slip > 0.5 or guess > 0.5:
            continue
        items, d = rng.integers(0, n_items, (n, length)), rng.normal(0, 1, n_items)
        learned = rng.random((n, length)) < np.where(np.arange(length) == 0, prior, transit)
        known = np.maximum.accumulate(learned, axis=1)
        right = rng.random((n, length)) < probability(ability(np.where(known, 1 - slip, guess)), 1, -d[items])
        names, flat = tuple(map(str, range(n_items))), right.ravel().astype(np.uint8)
        made.append(SkillAnswers(str(len(made)), names, items.ravel(), flat, np.arange(n + 1) * length))
    return made


def folds(school: School, answers: int | None) -> Iterator[School]:
    """The school with each fifth of its students held out, and a limited number of answers of the others."""
    for fold in range(FOLDS):
        made = []
        for skill in school:
            held = np.random.default_rng(7).permutation(skill.n_students) % FOLDS == fold
            so_far = np.cumsum(np.where(held, 0, np.diff(skill.offsets)))
            kept = held | (so_far <= (answers or so_far[-1]))
            made.append(replace(skill, held_out=held).of_students(kept))
        yield made


def fitted_params(skill: SkillAnswers) -> tuple[BktParams, BktParams]:
    """The grid's winner and the polished optimum of the students who are not held out."""
    some = skill.of_students(~skill.held_out)
    n, as_of = some.n_answers, datetime.fromtimestamp(86_400, UTC)
    ids = tuple(map(str, range(some.n_students)))
    window = AttemptWindow("skill", ids, some.responses, np.arange(n) + 1, some.offsets, as_of, 1)
    fit = calibrate(window, polished=True)
    return fit.params, fit.polished


def school_prior(school: School, theta: Theta, params: list) -> ItemPrior:
    some = [skill.of_students(~skill.held_out) for skill in school]
    fits = (calibrate_items(s, theta(s, of), min_answers=1) for s, of in zip(some, params, strict=True))
    return learn_item_prior(fit.moments for fit in fits)


def on_p_known(skill: SkillAnswers, params: BktParams) -> np.ndarray:
    """The ability that the 2PL used earlier: the logit of P(known)."""
    before, _ = replay(skill.responses, skill.offsets, params)
    return ability(before.clip(0.05, 0.95))


def two_pl_on_p_known(school: School, params: list) -> float:
    """Log-likelihood per answer of that earlier 2PL, with its own prior."""
    prior, total, n = school_prior(school, on_p_known, params), 0.0, 0
    for skill, of in zip(school, params, strict=True):
        some, held = skill.of_students(~skill.held_out), skill.of_students(skill.held_out)
        fits = calibrate_items(some, on_p_known(some, of), prior=prior, min_answers=1).fits
        before, _ = replay(held.responses, held.offsets, of)
        theirs = probability(on_p_known(held, of), fits.irt_a[held.items], fits.irt_b[held.items])
        p = np.where(np.isnan(theirs), predict(before, of), theirs)
        total += np.log(np.where(held.responses == 1, p, 1 - p)).sum()
        n += held.n_answers
    return total / n


def ahead(school: School, params: list) -> list[float]:
    """Gain over BKT alone in mnat: success rate, 2PL on P(known), 2PL with the shipped and the school's prior, offset."""

    def compared(prior: ItemPrior) -> ItemComparison:
        pairs = zip(school, params, strict=True)
        return pool_comparisons(compare_items(skill, of, prior=prior, min_answers=1) for skill, of in pairs)

    shipped, own = compared(SHIPPED_ITEM_PRIOR), compared(school_prior(school, theta_by_replay, params))
    values = (own.success_rate, two_pl_on_p_known(school, params), shipped.two_pl, own.two_pl, own.offset)
    return [1000 * (value - own.bkt) for value in values]


def held_out() -> None:
    columns = {}
    sources = {"200, grid": (glops(), 200), "1,000, grid": (glops(), 1000), "all, grid": (glops(), None),
               "all, polished": (glops(), None), "simulated, grid": (simulated(), None)}  # fmt: skip
    for name, (school, answers) in sources.items():
        estimator = int("polished" in name)
        columns[name] = np.array([
            ahead(fold, [fitted_params(skill)[estimator] for skill in fold]) for fold in folds(school, answers)
        ])  # fmt: skip
    print("| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for place, row in enumerate(ROWS):
        cells = [f"{of[:, place].mean():+.1f} ({of[:, place].min():+.1f})" for of in columns.values()]
        print(f"| {row} | {' | '.join(cells)} |")
    whole = [(skill, fitted_params(skill)[0]) for skill in glops()]
    flags = np.concatenate(
        [calibrate_items(skill, theta_by_replay(skill, of)).fits.flags for skill, of in whole]
    )
    at_bound = np.mean((flags & (ItemFlag.AT_BOUND_A | ItemFlag.AT_BOUND_B)) != 0)
    low_spread = np.mean((flags & ItemFlag.LOW_SPREAD) != 0)
    of = pool_comparisons(compare_items(*pair) for pair in whole)
    print(f"\n{of}\nat a bound {at_bound:.1%}, low spread {low_spread:.1%}\n", flush=True)


def items(rng: np.random.Generator, a: np.ndarray, b: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
    theta = rng.normal(0, 1, (a.size, n))
    right = rng.random(theta.shape) < probability(theta, a[:, None], b[:, None])
    return theta.ravel(), right.ravel().astype(np.uint8), np.arange(a.size + 1) * n


def recovery(n_items: int = 5000) -> None:
    print("| answers | ML | shipped prior | learned prior | offset |\n|---|---|---|---|---|")
    for n in (10, 50, 200, 1000):
        rng = np.random.default_rng(1)
        a, b = np.exp(rng.normal(0.35, 0.25, n_items)), rng.normal(0, 1, n_items)
        given = items(rng, a, b, n)
        learned = learn_item_prior([item_moments(*given, min_answers=1)])
        cells = []
        for options in ({"method": "ml"}, {}, {"prior": learned}):
            fits = fit_items(*given, **options, min_answers=1)
            cells.append(f"{rmse(fits.irt_a, a):.2f} / {rmse(fits.irt_b, b):.2f}")
        d = fit_offsets(*items(rng, np.ones(n_items), b, n)).d
        print(f"| {n} | {' | '.join(cells)} | {rmse(d, -b):.2f} |", flush=True)


def rmse(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean((found - true) ** 2)))


if __name__ == "__main__":
    held_out()
    recovery()
