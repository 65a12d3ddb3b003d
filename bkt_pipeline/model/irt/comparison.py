"""Compares four item models by how well they predict the answers of students that none of them was fitted to."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidAttempts
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.pooled import pooled
from bkt_pipeline.model.bkt.replay import predict, replay
from bkt_pipeline.model.irt.answers import SkillAnswers, by_item, right_answers
from bkt_pipeline.model.irt.curve import ability, probability
from bkt_pipeline.model.irt.items import theta_by_replay
from bkt_pipeline.model.irt.offset import fit_offsets
from bkt_pipeline.model.irt.prior import SHIPPED_ITEM_PRIOR, ItemPrior
from bkt_pipeline.model.irt.two_pl import MIN_ANSWERS, fit_items
from bkt_pipeline.model.params import BktParams

__all__ = ["ItemComparison", "compare_items", "compare_skills", "params_without_held_out", "pool_comparisons"]

Floats = npt.NDArray[np.float64]

# The window needs a time, but the answers here have none.
EPOCH = datetime.fromtimestamp(0, UTC)
# The least probability of an answer, so that an answer with probability 0 does not make the comparison infinite.
LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class ItemComparison:
    """How well four models predict held-out answers: mean log-likelihood, nats per answer; higher is better.

    Attributes
    ----------
    n_answers : int
        Held-out answers.
    bkt : float
        Bayesian Knowledge Tracing alone, the same for all items of a skill.
    success_rate : float
        The share of right answers to the item, the same for all students.
    two_pl : float
        The 2PL on the ability scale; BKT alone for items without 2PL parameters.
    offset : float
        The offset model; BKT alone for items that only held-out students answered.
    """

    n_answers: int
    bkt: float
    success_rate: float
    two_pl: float
    offset: float


def compare_items(
    answers: SkillAnswers,
    params: BktParams,
    *,
    prior: ItemPrior = SHIPPED_ITEM_PRIOR,
    min_answers: int = MIN_ANSWERS,
) -> ItemComparison | None:
    """Fit the item models to the students who are not held out, and evaluate them on those who are.

    Parameters
    ----------
    answers : SkillAnswers
        With `held_out`.
    params : BktParams
        Parameters of the skill, preferably fitted to the students who are not held out (`params_without_held_out`).
        If they were fitted to all students, every model except the success rate has a small unfair advantage.
    prior : ItemPrior
        The prior of the 2PL.
    min_answers : int
        Items with fewer answers get no 2PL.

    Returns
    -------
    ItemComparison or None
        None if one of the two groups has no answers.

    Raises
    ------
    InvalidAttempts
        If the answers were read without `held_out`.

    Examples
    --------
    An item that is much harder than the other:

    >>> from bkt_pipeline.model.simulate import simulate
    >>> params = BktParams(0.5, 0.1, 0.1, 0.2)
    >>> window = simulate(params, n_students=500, seed=1, lengths=6)
    >>> item, lucky = np.arange(3000) % 2, np.random.default_rng(1).random(3000) < 0.5
    >>> right = (window.responses == 1) & ((item == 0) | lucky)
    >>> held_out = np.arange(500) % 5 == 0
    >>> answers = SkillAnswers("s", ("i", "j"), item, right.astype(np.uint8), window.offsets, held_out=held_out)
    >>> found = compare_items(answers, params)
    >>> found.n_answers, found.bkt < found.offset, found.success_rate < found.offset
    (600, True, True)
    """
    return compare_skills([answers], [params], prior=prior, min_answers=min_answers)[0]


def compare_skills(
    skills: Sequence[SkillAnswers],
    params: Sequence[BktParams] | None = None,
    *,
    prior: ItemPrior = SHIPPED_ITEM_PRIOR,
    min_answers: int = MIN_ANSWERS,
) -> list[ItemComparison | None]:
    """The same for several skills at once, equal to `compare_items` of each to the last bit.

    Without `params`, they are those of `params_without_held_out`.
    """
    sides = [(a.of_students(~_held_out(a)), a.of_students(_held_out(a))) for a in skills]
    usable = [at for at, (fitted, held) in enumerate(sides) if fitted.n_answers and held.n_answers]
    found: list[ItemComparison | None] = [None] * len(skills)
    if usable:
        chosen = [sides[at] for at in usable]
        predicting = [params[at] if params else _pooled(sides[at][0]) for at in usable]
        for at, compared in zip(usable, _compared(chosen, predicting, prior, min_answers), strict=True):
            found[at] = compared
    return found


def _compared(
    sides: Sequence[tuple[SkillAnswers, SkillAnswers]],
    params: Sequence[BktParams],
    prior: ItemPrior,
    min_answers: int,
) -> list[ItemComparison]:
    """The comparison of each skill, from the answers to fit and the held-out ones."""
    fitted = [answers for answers, _ in sides]
    thetas = [theta_by_replay(answers, of) for answers, of in zip(fitted, params, strict=True)]
    given, bounds = by_item(fitted, thetas)
    two_pl = fit_items(*given, prior=prior, min_answers=min_answers, calibrated_answers=min_answers)
    d = np.nan_to_num(fit_offsets(*given).d)
    held = [answers for _, answers in sides]
    bkt = np.concatenate([_predicted(answers, of) for answers, of in zip(held, params, strict=True)])
    eta = ability(bkt)
    of = np.concatenate([first + answers.items for first, answers in zip(bounds[:-1], held, strict=True)])
    a, b = np.nan_to_num(two_pl.irt_a, nan=1.0), np.nan_to_num(two_pl.irt_b)
    # Half a right and half a wrong answer are added, for items with no right, no wrong, or no answers at all.
    rate = (np.concatenate([right_answers(one) for one in fitted]) + 0.5) / (two_pl.n_attempts + 1.0)
    right = np.concatenate([answers.responses for answers in held]) == 1
    begins = [0, *accumulate(answers.n_answers for answers in held)]

    def scores(p: Floats) -> list[float]:
        """The mean of each skill's held-out answers."""
        logs = np.log(np.maximum(np.where(right, p, 1.0 - p), LEAST)).tolist()
        return [math.fsum(logs[one:end]) / (end - one) for one, end in pairwise(begins)]

    of_models = (
        scores(bkt),
        scores(rate[of]),
        scores(probability(eta, a[of], b[of])),
        scores(probability(eta, 1.0, -d[of])),
    )
    return [
        ItemComparison(answers.n_answers, *numbers)
        for answers, *numbers in zip(held, *of_models, strict=True)
    ]


def params_without_held_out(answers: SkillAnswers) -> BktParams:
    """The skill's parameters, fitted to the students who are not held out: the pooled estimate with the shipped prior.

    This estimate does not depend on the school, so no held-out answer influences it. It takes a millisecond.

    Parameters
    ----------
    answers : SkillAnswers
        With `held_out`.

    Returns
    -------
    BktParams
        With the log-likelihood of the answers that it was fitted to, in nats.

    Raises
    ------
    InvalidAttempts
        If the answers were read without `held_out`.

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> window = simulate(BktParams(0.5, 0.1, 0.1, 0.2), n_students=2000, seed=1)
    >>> items, held_out = np.zeros(window.n_attempts, int), np.arange(2000) % 5 == 0
    >>> answers = SkillAnswers("s", ("i",), items, window.responses, window.offsets, held_out=held_out)
    >>> [round(value, 2) for value in params_without_held_out(answers).values]
    [0.54, 0.09, 0.1, 0.18]
    """
    return _pooled(answers.of_students(~_held_out(answers)))


def _pooled(fitted: SkillAnswers) -> BktParams:
    window = AttemptWindow(
        fitted.skill_id,
        tuple(map(str, range(fitted.n_students))),
        fitted.responses,
        np.zeros(fitted.n_answers, np.int64),
        fitted.offsets,
        EPOCH,
        window_days=1,
    )
    return pooled(window)


def pool_comparisons(comparisons: Iterable[ItemComparison]) -> ItemComparison | None:
    """The comparison over several skills: means weighted by the number of held-out answers.

    Parameters
    ----------
    comparisons : iterable of ItemComparison

    Returns
    -------
    ItemComparison or None
        None if there are no skills.

    Examples
    --------
    >>> pool_comparisons([ItemComparison(1, -0.5, -0.75, -0.5, -0.25), ItemComparison(3, -0.75, -0.75, -0.5, -0.25)])
    ItemComparison(n_answers=4, bkt=-0.6875, success_rate=-0.75, two_pl=-0.5, offset=-0.25)
    """
    some = [comparison for comparison in comparisons if comparison.n_answers]
    n = sum(comparison.n_answers for comparison in some)
    if not n:
        return None
    names = ("bkt", "success_rate", "two_pl", "offset")
    sums = {name: math.fsum(getattr(one, name) * one.n_answers for one in some) for name in names}
    return ItemComparison(n, **{name: value / n for name, value in sums.items()})


def _held_out(answers: SkillAnswers) -> npt.NDArray[np.bool_]:
    if answers.held_out is None:
        raise InvalidAttempts(f"skill {answers.skill_id!r}: its answers were read without held_out")
    return answers.held_out


def _predicted(answers: SkillAnswers, params: BktParams) -> Floats:
    """P(right) of each answer from the ones before it, float64 (n_answers,)."""
    before, _ = replay(answers.responses, answers.offsets, params)
    return predict(before, params)
