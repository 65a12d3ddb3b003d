"""Skills' answers become verdicts on their items: calibrated, skipped or failed. Knows no Dagster and no SQL."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from bkt_pipeline.calibration.item_checks import inside_bounds, verify_items
from bkt_pipeline.calibration.skill_checks import Finding
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


@dataclass(frozen=True)
class ItemRules:
    """How items are calibrated; the defaults are those of model/irt.py."""

    theta_from: Literal["replay", "mastery"] = "replay"
    method: Literal["map", "ml"] = "map"
    min_answers: int = MIN_ANSWERS
    calibrated_answers: int = CALIBRATED_ANSWERS


@dataclass(frozen=True)
class ItemsVerdict:
    """What became of one skill's items: their fits, or the reason why there are none."""

    skill_id: str
    outcome: str
    items: SkillItems | None = field(default=None, repr=False)
    reason: str | None = None
    answers: int = 0
    students: int = 0
    params_since: dt.datetime | None = None
    findings: tuple[Finding, ...] = ()

    def count(self, status: ItemStatus) -> int:
        """How many of the items have that status."""
        return 0 if self.items is None else int(np.count_nonzero(self.items.fits.status == status))

    @property
    def log_likelihood(self) -> float | None:
        """Of all calibrated items, in nats; None where there is none."""
        if self.outcome != "calibrated" or self.items is None:
            return None
        return float(np.nansum(self.items.fits.log_likelihood))


def judge_items(
    answers: Mapping[str, SkillAnswers],
    params: Mapping[str, tuple[BktParams, dt.datetime]],
    unusable: Mapping[str, str],
    rules: ItemRules,
) -> Iterator[ItemsVerdict]:
    """One verdict a skill.

    Parameters
    ----------
    answers
        The answers of each skill.
    params
        The parameters to replay them with, and since when they stand, of the skills that have some.
    unusable
        Skills whose parameters are none, with the reason.
    rules
        How to calibrate.
    """
    for key, of_skill in answers.items():
        standing = params.get(key)
        since = standing[1] if standing and rules.theta_from == "replay" else None
        verdict = ItemsVerdict(
            key, "calibrated", answers=of_skill.n_answers, students=of_skill.n_students, params_since=since
        )
        if rules.theta_from == "replay" and key in unusable:
            yield replace(verdict, outcome="failed", reason=unusable[key])
        elif rules.theta_from == "replay" and standing is None:
            reason = "the skill was never calibrated, so there are no parameters to replay its answers with"
            yield replace(verdict, outcome="skipped", reason=reason)
        else:
            try:
                theta = (
                    theta_by_mastery(of_skill)
                    if standing is None or rules.theta_from == "mastery"
                    else theta_by_replay(of_skill, standing[0])
                )
                yield _judge(verdict, of_skill, theta, rules)
            except Exception as error:
                yield replace(verdict, outcome="failed", reason=f"{type(error).__name__}: {error}")


def _judge(verdict: ItemsVerdict, answers: SkillAnswers, theta: Floats, rules: ItemRules) -> ItemsVerdict:
    items = calibrate_items(
        answers,
        theta,
        method=rules.method,
        min_answers=rules.min_answers,
        calibrated_answers=rules.calibrated_answers,
    )
    findings = verify_items(items, right_answers(answers), rules.min_answers)
    verdict = replace(verdict, items=subset(items, inside_bounds(items)), findings=findings)
    if findings[0].passed:
        return verdict
    return replace(
        verdict,
        outcome="skipped",
        reason=f"no item has {rules.min_answers} graded answers; the most that one has is {findings[0].numbers['actual']}",
    )


def subset(items: SkillItems, chosen: npt.NDArray[np.bool_]) -> SkillItems:
    """The chosen ones of the items."""
    if chosen.all():
        return items
    fits = items.fits
    names = ("irt_a", "irt_b", "se_a", "se_b", "log_likelihood", "n_attempts", "flags", "status")
    return SkillItems(
        items.skill_id,
        tuple(item for item, keep in zip(items.item_ids, chosen, strict=True) if keep),
        ItemFits(**{name: getattr(fits, name)[chosen] for name in names}),
    )
