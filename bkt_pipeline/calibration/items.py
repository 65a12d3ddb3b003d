"""Turns the answers of skills into verdicts on their items: calibrated, skipped or failed."""

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
from bkt_pipeline.model.irt.answers import SkillAnswers
from bkt_pipeline.model.irt.comparison import ItemComparison, compare_skills
from bkt_pipeline.model.irt.fits import ItemStatus
from bkt_pipeline.model.irt.items import (
    ItemModel,
    SkillItems,
    calibrate_skills,
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
FITTED_TOGETHER = 20_000  # answers; smaller skills are judged with others until they have as many
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

    @property
    def counts(self) -> dict[str, int]:
        """How many of the items have each status."""
        found = Counter(() if self.items is None else self.items.fits.status.tolist())
        return {str(status): found[status] for status in ItemStatus}

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
    """Yield one verdict for each skill, in their order; each core of this process judges several of them together.

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

    def together(keys: Sequence[str]) -> list[ItemsVerdict]:
        """The verdicts on some skills; if one of them raises an error, each is judged alone, so that only it fails."""
        begun = [_begun(key, answers[key], params.get(key), unusable.get(key)) for key in keys]
        try:
            return _judge(begun, answers, params, options, prior)
        except Exception as error:
            if len(keys) == 1:
                reason = f"{type(error).__name__}: {error}"
                return [replace(begun[0], outcome=Outcome.FAILED, reason=reason)]
        return [verdict for key in keys for verdict in together([key])]

    with thread_pool() as pool:
        for verdicts in pool.map(together, _groups(answers)):
            yield from verdicts


def _groups(answers: Mapping[str, SkillAnswers]) -> Iterator[list[str]]:
    """The skills in their order, in groups that are fitted together."""
    group, size = [], 0
    for key, of_skill in answers.items():
        group.append(key)
        size += of_skill.n_answers
        if size >= FITTED_TOGETHER:
            yield group
            group, size = [], 0
    if group:
        yield group


def _begun(
    key: str, answers: SkillAnswers, current: tuple[BktParams, dt.datetime] | None, unusable: str | None
) -> ItemsVerdict:
    """The verdict before anything is fitted; final if the skill has no parameters."""
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
    return verdict


def _judge(
    begun: Sequence[ItemsVerdict],
    answers: Mapping[str, SkillAnswers],
    params: Mapping[str, tuple[BktParams, dt.datetime]],
    options: ItemOptions,
    prior: ItemPrior,
) -> list[ItemsVerdict]:
    """Fit the items of the skills that have parameters, and complete their verdicts."""
    verdicts = {verdict.skill_id: verdict for verdict in begun}
    keys = [verdict.skill_id for verdict in begun if verdict.outcome is Outcome.CALIBRATED]
    if not keys:
        return list(begun)
    theta = theta_by_mastery if options.theta_from == "mastery" else theta_by_replay
    calibrated = calibrate_skills(
        [answers[key] for key in keys],
        [theta(answers[key], params[key][0]) for key in keys],
        method=options.method,
        prior=prior,
        min_answers=options.min_answers,
        calibrated_answers=options.calibrated_answers,
    )
    enough = {
        items.skill_id: items_have_enough_answers(items, options.enough_answers) for items in calibrated
    }
    split = [key for key in keys if enough[key].passed and answers[key].held_out is not None]
    found = compare_skills([answers[key] for key in split], prior=prior, min_answers=options.min_answers)
    compared = dict(zip(split, found, strict=True))
    for items in calibrated:
        key = items.skill_id
        verdict = replace(verdicts[key], items=items.only(inside_bounds(items)), findings=(enough[key],))
        if not enough[key].passed:
            reason = (
                f"no item has {options.enough_answers} graded answers, both right and wrong; "
                f"the most for one item is {enough[key].numbers['actual']}"
            )
            verdicts[key] = replace(verdict, outcome=Outcome.SKIPPED, reason=reason)
            continue
        verdicts[key] = replace(
            verdict,
            findings=(
                enough[key],
                log_likelihood_beats_constant(compared.get(key), options.item_model),
                item_parameters_inside_bounds(items),
            ),
            comparison=compared.get(key),
        )
    return list(verdicts.values())
