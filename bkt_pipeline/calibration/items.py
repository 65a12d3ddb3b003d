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
from bkt_pipeline.model.irt.fits import ItemFits, ItemStatus
from bkt_pipeline.model.irt.items import (
    SkillAnswers,
    SkillItems,
    calibrate_items,
    right_answers,
    theta_by_mastery,
    theta_by_replay,
)
from bkt_pipeline.model.irt.two_pl import CALIBRATED_ANSWERS, MIN_ANSWERS
from bkt_pipeline.model.params import BktParams

Floats = npt.NDArray[np.float64]

LOW_DATA_EVENT = "irt_skip_low_data"
WINDOW_DAYS = 90


@dataclass(frozen=True)
class ItemOptions:
    """How items are calibrated; `ItemSettings` describes each option."""

    window_days: int = WINDOW_DAYS

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
) -> Iterator[ItemsVerdict]:
    """Yield one verdict for each skill.

    Parameters
    ----------
    answers
        The answers of each skill.
    params
        For each skill that has them: the parameters to replay its answers with, and when they were calibrated.
    unusable
        Skills whose stored parameters are not valid, with the reason.
    options
        How to calibrate.
    """
    for key, of_skill in answers.items():
        current = params.get(key)
        since = current[1] if current and options.theta_from == "replay" else None
        verdict = ItemsVerdict(
            key,
            Outcome.CALIBRATED,
            answers=of_skill.n_answers,
            students=of_skill.n_students,
            params_since=since,
        )
        if options.theta_from == "replay" and key in unusable:
            yield replace(verdict, outcome=Outcome.FAILED, reason=unusable[key])
        elif options.theta_from == "replay" and current is None:
            reason = "the skill was never calibrated, so there are no parameters to replay its answers with"
            yield replace(verdict, outcome=Outcome.SKIPPED, reason=reason)
        else:
            try:
                theta = (
                    theta_by_mastery(of_skill)
                    if current is None or options.theta_from == "mastery"
                    else theta_by_replay(of_skill, current[0])
                )
                yield _judge(verdict, of_skill, theta, options)
            except Exception as error:
                yield replace(verdict, outcome=Outcome.FAILED, reason=f"{type(error).__name__}: {error}")


def _judge(verdict: ItemsVerdict, answers: SkillAnswers, theta: Floats, options: ItemOptions) -> ItemsVerdict:
    items = calibrate_items(
        answers,
        theta,
        method=options.method,
        min_answers=options.min_answers,
        calibrated_answers=options.calibrated_answers,
    )
    findings = verify_items(items, right_answers(answers), options.min_answers)
    verdict = replace(verdict, items=subset(items, inside_bounds(items)), findings=findings)
    if findings[0].passed:
        return verdict
    return replace(
        verdict,
        outcome=Outcome.SKIPPED,
        reason=f"no item has {options.min_answers} graded answers; the most for one item is {findings[0].numbers['actual']}",
    )


def subset(items: SkillItems, chosen: npt.NDArray[np.bool_]) -> SkillItems:
    """Only the chosen items."""
    if chosen.all():
        return items
    fits = items.fits
    names = ("irt_a", "irt_b", "se_a", "se_b", "log_likelihood", "n_attempts", "flags", "status")
    return SkillItems(
        items.skill_id,
        tuple(item for item, keep in zip(items.item_ids, chosen, strict=True) if keep),
        ItemFits(**{name: getattr(fits, name)[chosen] for name in names}),
    )
