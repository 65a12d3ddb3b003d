"""Turns the answers of skills into verdicts on their items: calibrated, skipped or failed."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from bkt_pipeline.calibration.check import Finding
from bkt_pipeline.calibration.item_checks import (
    fitted,
    inside_bounds,
    item_parameters_inside_bounds,
    items_have_enough_answers,
    log_likelihood_beats_constant,
)
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.model.irt.comparison import ItemComparison, compare_items, params_without_held_out
from bkt_pipeline.model.irt.fits import ItemStatus
from bkt_pipeline.model.irt.items import (
    ItemModel,
    SkillAnswers,
    SkillItems,
    calibrate_items,
    theta_by_mastery,
    theta_by_replay,
)
from bkt_pipeline.model.irt.prior import SHIPPED_ITEM_PRIOR, ItemPrior
from bkt_pipeline.model.irt.two_pl import CALIBRATED_ANSWERS, MIN_ANSWERS
from bkt_pipeline.model.params import BktParams
from bkt_pipeline.model.threads import thread_pool
from bkt_pipeline.settings import ITEM_WINDOW_DAYS

Floats = npt.NDArray[np.float64]

LOW_DATA_EVENT = "irt_skip_low_data"
FULLER_ROWS = "its items keep the rows of an earlier night, which were fitted on more answers"


@dataclass(frozen=True)
class ItemOptions:
    """How items are calibrated; `ItemSettings` describes each option."""

    window_days: int = ITEM_WINDOW_DAYS

    theta_from: Literal["replay", "mastery"] = "replay"
    item_model: ItemModel = "2pl"
    method: Literal["map", "ml"] = "map"
    min_answers: int = MIN_ANSWERS
    calibrated_answers: int = CALIBRATED_ANSWERS

    @property
    def enough_answers(self) -> int:
        """Answers, both right and wrong, that an item needs before the platform gets numbers for it."""
        return self.min_answers if self.item_model == "2pl" else 2


@dataclass(frozen=True)
class ItemsVerdict:
    """The outcome of one skill's items: their fits, or the reason why there are none."""

    skill_id: str
    outcome: Outcome
    items: SkillItems | None = field(default=None, repr=False)
    reason: str | None = None
    answers: int = 0
    students: int = 0
    params_since: dt.datetime | None = None
    findings: tuple[Finding, ...] = ()
    comparison: ItemComparison | None = None

    def count(self, status: ItemStatus) -> int:
        """How many of the items have the status."""
        return 0 if self.items is None else int(np.count_nonzero(self.items.fits.status == status))

    @property
    def log_likelihood(self) -> float | None:
        """Log-likelihood of all items with a 2PL, in nats; None if there are none."""
        if self.outcome != Outcome.CALIBRATED or self.items is None:
            return None
        of_items = self.items.fits.log_likelihood
        return None if np.isnan(of_items).all() else float(np.nansum(of_items))

    @property
    def is_thin(self) -> bool:
        """Whether no item has a 2PL, so that any row with one stays."""
        return self.items is not None and not fitted(self.items).any()

    @property
    def result(self) -> SkillItems | None:
        """What will be stored."""
        return self.items

    def without_result(self, outcome: Outcome, reason: str) -> "ItemsVerdict":
        """The verdict with another outcome, when its items were not stored after all."""
        return replace(self, outcome=outcome, items=None, reason=reason)


def judge_items(
    answers: Mapping[str, SkillAnswers],
    params: Mapping[str, tuple[BktParams, dt.datetime]],
    unusable: Mapping[str, str],
    options: ItemOptions,
    prior: ItemPrior = SHIPPED_ITEM_PRIOR,
) -> Iterator[ItemsVerdict]:
    """Yield one verdict for each skill, in their order; as many are judged at a time as this process has cores.

    Parameters
    ----------
    answers
        The answers of each skill.
    params
        For each skill that has them: the parameters to predict its answers with, and when they were calibrated.
    unusable
        Skills whose stored parameters are not valid, with the reason.
    options
        How to calibrate.
    prior
        The school's prior on (log a, b) of the 2PL.
    """

    def judged(key: str) -> ItemsVerdict:
        return _judge_skill(key, answers[key], params.get(key), unusable.get(key), options, prior)

    with thread_pool() as pool:
        yield from pool.map(judged, answers)


def _judge_skill(
    key: str,
    answers: SkillAnswers,
    current: tuple[BktParams, dt.datetime] | None,
    unusable: str | None,
    options: ItemOptions,
    prior: ItemPrior,
) -> ItemsVerdict:
    verdict = ItemsVerdict(
        key,
        Outcome.CALIBRATED,
        answers=answers.n_answers,
        students=answers.n_students,
        params_since=current[1] if current else None,
    )
    if unusable is not None:
        return replace(verdict, outcome=Outcome.FAILED, reason=unusable)
    if current is None:
        reason = "the skill was never calibrated, so there are no parameters to predict its answers with"
        return replace(verdict, outcome=Outcome.SKIPPED, reason=reason)
    ability_of = theta_by_mastery if options.theta_from == "mastery" else theta_by_replay
    try:
        return _judge(verdict, answers, ability_of(answers, current[0]), options, prior)
    except Exception as error:
        return replace(verdict, outcome=Outcome.FAILED, reason=f"{type(error).__name__}: {error}")


def _judge(
    verdict: ItemsVerdict, answers: SkillAnswers, theta: Floats, options: ItemOptions, prior: ItemPrior
) -> ItemsVerdict:
    items = calibrate_items(
        answers,
        theta,
        method=options.method,
        prior=prior,
        min_answers=options.min_answers,
        calibrated_answers=options.calibrated_answers,
    )
    enough = items_have_enough_answers(items, options.enough_answers)
    verdict = replace(verdict, items=items.only(inside_bounds(items)), findings=(enough,))
    if not enough.passed:
        reason = (
            f"no item has {options.enough_answers} graded answers, both right and wrong; "
            f"the most for one item is {enough.numbers['actual']}"
        )
        return replace(verdict, outcome=Outcome.SKIPPED, reason=reason)
    compared = None
    if answers.held_out is not None and not answers.held_out.all():
        params = params_without_held_out(answers)
        compared = compare_items(answers, params, prior=prior, min_answers=options.min_answers)
    return replace(
        verdict,
        findings=(
            enough,
            log_likelihood_beats_constant(compared, options.item_model),
            item_parameters_inside_bounds(items),
        ),
        comparison=compared,
    )
