"""Calibrates a skill's items on its students' answers: P(right) just before each answer, then the 2PL and the offsets.

The steps: `SkillAnswers` -> theta of each answer (`theta_by_replay` or `theta_by_mastery`) -> `calibrate_items` ->
`SkillItems`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidAttempts
from bkt_pipeline.model.bkt.replay import predict, replay
from bkt_pipeline.model.irt.answers import SkillAnswers, by_item
from bkt_pipeline.model.irt.curve import ability
from bkt_pipeline.model.irt.fits import ItemFits, ItemFlag
from bkt_pipeline.model.irt.offset import OffsetFits, fit_offsets
from bkt_pipeline.model.irt.prior import SHIPPED_ITEM_PRIOR, ItemMoments, ItemPrior
from bkt_pipeline.model.irt.two_pl import CALIBRATED_ANSWERS, MIN_ANSWERS, fit_items, moments_of_groups
from bkt_pipeline.model.params import BktParams

__all__ = [
    "ItemModel",
    "SkillItems",
    "calibrate_items",
    "calibrate_skills",
    "published",
    "theta_by_mastery",
    "theta_by_replay",
]

# Which model the platform's items.irt_a and items.irt_b come from.
ItemModel = Literal["2pl", "offset"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SkillItems:
    """The items of one skill with their fits, all in the same order.

    Attributes
    ----------
    skill_id : str
    item_ids : tuple of str, length n_items
    fits : ItemFits
        The 2PL.
    offsets : OffsetFits
        The offset model.
    moments : ItemMoments, optional
        What these items contribute to the prior of the 2PL; None if the fits were read from the database.
    """

    skill_id: str
    item_ids: tuple[str, ...]
    fits: ItemFits
    offsets: OffsetFits
    moments: ItemMoments | None = None

    def __len__(self) -> int:
        return len(self.item_ids)

    def only(self, chosen: npt.NDArray[np.bool_]) -> "SkillItems":
        """The chosen items, bool of shape (n_items,), with the moments of all."""
        return SkillItems(
            self.skill_id,
            tuple(item for item, keep in zip(self.item_ids, chosen, strict=True) if keep),
            self.fits.only(chosen),
            self.offsets.only(chosen),
            self.moments,
        )


def theta_by_replay(answers: SkillAnswers, params: BktParams) -> Floats:
    """Ability just before each answer: the logit of P(right) after a replay of the student's earlier answers.

    The answer itself and later answers are not used. The replay begins at the prior, with the student's first answer
    in `answers`.

    Parameters
    ----------
    answers : SkillAnswers
    params : BktParams
        Parameters of the skill.

    Returns
    -------
    float64 array, shape (n_answers,)

    Examples
    --------
    >>> answers = SkillAnswers("s", ("i",), np.array([0, 0]), np.array([1, 0], np.uint8), np.array([0, 2]))
    >>> theta_by_replay(answers, BktParams(0.3, 0.1, 0.1, 0.2)).round(3)
    array([-0.364,  0.776])
    """
    before, _ = replay(answers.responses, answers.offsets, params)
    return ability(predict(before, params))


def theta_by_mastery(answers: SkillAnswers, params: BktParams) -> Floats:
    """Ability from the platform's current P(known), the same for all answers of a student: the logit of P(right).

    Parameters
    ----------
    answers : SkillAnswers
        With `mastery`.
    params : BktParams
        Parameters of the skill.

    Returns
    -------
    float64 array, shape (n_answers,)
    """
    if answers.mastery is None:
        raise InvalidAttempts(f"skill {answers.skill_id!r}: its answers were read without mastery")
    return ability(np.repeat(predict(answers.mastery, params), np.diff(answers.offsets)))


def calibrate_items(
    answers: SkillAnswers,
    theta: Floats,
    *,
    method: Literal["map", "ml"] = "map",
    prior: ItemPrior = SHIPPED_ITEM_PRIOR,
    min_answers: int = MIN_ANSWERS,
    calibrated_answers: int = CALIBRATED_ANSWERS,
) -> SkillItems:
    """Fit every item of the skill, by the 2PL and by the offset model.

    Parameters
    ----------
    answers : SkillAnswers
    theta : float64 array, shape (n_answers,)
        Ability at each answer.
    method, prior, min_answers, calibrated_answers
        As in `fit_items`; the offset model does not use them.

    Returns
    -------
    SkillItems

    Examples
    --------
    >>> answers = SkillAnswers("s", ("i", "j"), np.arange(90) % 2, (np.arange(90) % 3 > 0).astype(np.uint8), np.arange(91))
    >>> items = calibrate_items(answers, theta_by_replay(answers, BktParams(0.6, 0.1, 0.1, 0.2)), min_answers=30)
    >>> items.fits.status.tolist(), items.offsets.d.round(2)
    (['provisional', 'provisional'], array([0.19, 0.19]))
    """
    (found,) = calibrate_skills(
        [answers],
        [theta],
        method=method,
        prior=prior,
        min_answers=min_answers,
        calibrated_answers=calibrated_answers,
    )
    return found


def calibrate_skills(
    skills: Sequence[SkillAnswers],
    thetas: Sequence[Floats],
    *,
    method: Literal["map", "ml"] = "map",
    prior: ItemPrior = SHIPPED_ITEM_PRIOR,
    min_answers: int = MIN_ANSWERS,
    calibrated_answers: int = CALIBRATED_ANSWERS,
) -> list[SkillItems]:
    """The same for several skills at once, equal to `calibrate_items` of each to the last bit.

    A skill with ten items takes longer to hand to the kernels than to fit.
    """
    given, bounds = by_item(skills, thetas)
    fits = fit_items(
        *given, method=method, prior=prior, min_answers=min_answers, calibrated_answers=calibrated_answers
    )
    offsets = fit_offsets(*given)
    moments = moments_of_groups(*given, bounds, min_answers=min_answers)
    found = []
    for number, answers in enumerate(skills):
        mine = slice(bounds[number], bounds[number + 1])
        items = fits.only(mine), offsets.only(mine), moments[number]
        found.append(SkillItems(answers.skill_id, answers.item_ids, *items))
    return found


def published(items: SkillItems, model: ItemModel) -> tuple[Floats, Floats]:
    """The values for the platform's irt_a and irt_b, on the ability scale of `curve.ability`.

    Parameters
    ----------
    items : SkillItems
    model : {"2pl", "offset"}
        "offset" is a = 1, b = -d.

    Returns
    -------
    a, b : float64 array, shape (n_items,)
        NaN if the platform keeps its values, because the model has no parameters for the item, or everybody got the
        item right, or everybody got it wrong.

    Examples
    --------
    >>> answers = SkillAnswers("s", ("i",), np.zeros(60, int), (np.arange(60) % 2).astype(np.uint8), np.arange(61))
    >>> items = calibrate_items(answers, np.zeros(60))
    >>> published(items, "offset")[0]
    array([1.])
    """
    if model == "2pl":
        return items.fits.irt_a, items.fits.irt_b
    one_sided = (items.fits.flags & (ItemFlag.ALL_RIGHT | ItemFlag.ALL_WRONG)) != 0
    b = np.where(one_sided, np.nan, -items.offsets.d)
    return np.where(np.isnan(b), np.nan, 1.0), b
