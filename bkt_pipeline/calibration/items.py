"""Turns the answers of skills into verdicts on their items: calibrated, skipped or failed."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from bkt_pipeline.calibration.check import Finding
from bkt_pipeline.calibration.item_checks import inside_bounds, verify_items
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.model.irt.fits import ItemStatus
from bkt_pipeline.model.irt.items import (
    SkillAnswers,
    SkillItems,
    calibrate_items,
    right_answers,
    theta_by_mastery,
    theta_by_replay,
)
from bkt_pipeline.model.irt.prior import SHIPPED_ITEM_PRIOR, ItemPrior
from bkt_pipeline.model.irt.two_pl import CALIBRATED_ANSWERS, MIN_ANSWERS
from bkt_pipeline.model.params import BktParams
from bkt_pipeline.settings import ITEM_WINDOW_DAYS

Floats = npt.NDArray[np.float64]

LOW_DATA_EVENT = "irt_skip_low_data"


@dataclass(frozen=True)
class ItemOptions:
    """How items are calibrated; `ItemSettings` describes each option."""

    window_days: int = ITEM_WINDOW_DAYS

    theta_from: Literal["replay", "mastery"] = "replay"
    method: Literal["map", "ml"] = "map"
    min_answers: int = MIN_ANSWERS
    calibrated_answers: int = CALIBRATED_ANSWERS


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

    def count(self, status: ItemStatus) -> int:
        """How many of the items have the status."""
        return 0 if self.items is None else int(np.count_nonzero(self.items.fits.status == status))

    @property
    def log_likelihood(self) -> float | None:
        """Log-likelihood of all calibrated items, in nats; None if there are none."""
        if self.outcome != Outcome.CALIBRATED or self.items is None:
            return None
        return float(np.nansum(self.items.fits.log_likelihood))

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
    """Yield one verdict for each skill.

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
    for key, of_skill in answers.items():
        current = params.get(key)
        verdict = ItemsVerdict(
            key,
            Outcome.CALIBRATED,
            answers=of_skill.n_answers,
            students=of_skill.n_students,
            params_since=current[1] if current else None,
        )
        if key in unusable:
            yield replace(verdict, outcome=Outcome.FAILED, reason=unusable[key])
        elif current is None:
            reason = "the skill was never calibrated, so there are no parameters to predict its answers with"
            yield replace(verdict, outcome=Outcome.SKIPPED, reason=reason)
        else:
            ability_of = theta_by_mastery if options.theta_from == "mastery" else theta_by_replay
            try:
                yield _judge(verdict, of_skill, ability_of(of_skill, current[0]), options, prior)
            except Exception as error:
                yield replace(verdict, outcome=Outcome.FAILED, reason=f"{type(error).__name__}: {error}")


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
    findings = verify_items(items, right_answers(answers), options.min_answers)
    verdict = replace(verdict, items=items.only(inside_bounds(items)), findings=findings)
    if findings[0].passed:
        return verdict
    reason = (
        f"no item has {options.min_answers} graded answers, both right and wrong; "
        f"the most for one item is {findings[0].numbers['actual']}"
    )
    return replace(verdict, outcome=Outcome.SKIPPED, reason=reason)
