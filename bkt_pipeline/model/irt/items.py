"""A skill's items, calibrated on its students' answers: who could do how much just before each answer, then the 2PL.

The way: `SkillAnswers` -> theta of each answer (`theta_by_replay`, or `theta_by_mastery`) -> `calibrate_items` -> `SkillItems`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidAttempts
from bkt_pipeline.model.bkt.replay import replay
from bkt_pipeline.model.irt.fits import ItemFits
from bkt_pipeline.model.irt.two_pl import CALIBRATED_ANSWERS, MIN_ANSWERS, ability, fit_items
from bkt_pipeline.model.params import BktParams

__all__ = [
    "SkillAnswers",
    "SkillItems",
    "calibrate_items",
    "right_answers",
    "theta_by_mastery",
    "theta_by_replay",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class SkillAnswers:
    """The graded answers to one skill, one sequence a student, with the item of each.

    Parameters
    ----------
    skill_id : str
    item_ids : tuple of str, length n_items
        The items that were answered, distinct.
    items : int64 array, shape (n_answers,)
        Which of them each answer is to.
    responses : uint8 array, shape (n_answers,)
        1 right, 0 wrong; each student's in the order they were given.
    offsets : int64 array, shape (n_students + 1,)
        Where each student's sequence begins.
    mastery : float64 array, shape (n_students,), optional
        P(known) that the platform keeps for each student.

    Raises
    ------
    InvalidAttempts
        If these do not fit together.
    """

    skill_id: str
    item_ids: tuple[str, ...]
    items: npt.NDArray[np.int64]
    responses: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    mastery: Floats | None = None

    def __post_init__(self) -> None:
        n, items = self.responses.size, len(self.item_ids)
        fits = self.items.shape == (n,) and self.offsets[-1] == n
        if not fits or (n and not 0 <= self.items.min() <= self.items.max() < items):
            raise InvalidAttempts(
                f"skill {self.skill_id!r}: {n} answers, {self.items.size} items of answers out of {items}, "
                f"offsets to {self.offsets[-1]} do not fit together"
            )

    def __repr__(self) -> str:
        return (
            f"SkillAnswers(skill_id={self.skill_id!r}, {self.n_answers} answers, {len(self.item_ids)} items)"
        )

    @property
    def n_answers(self) -> int:
        """Answers of all students to all items."""
        return int(self.responses.size)

    @property
    def n_students(self) -> int:
        """Students who answered."""
        return int(self.offsets.size) - 1


@dataclass(frozen=True, eq=False)
class SkillItems:
    """The items of one skill with their fits, place by place.

    Attributes
    ----------
    skill_id : str
    item_ids : tuple of str, length n_items
    fits : ItemFits
    """

    skill_id: str
    item_ids: tuple[str, ...]
    fits: ItemFits

    def __len__(self) -> int:
        return len(self.item_ids)


def theta_by_replay(answers: SkillAnswers, params: BktParams) -> Floats:
    """Ability just before each answer: logit of P(known), from replaying the student's answers before it.

    The answer itself, and what comes after it, have no part in it. The replay begins with the student's first
    answer among `answers`, at the prior.

    Parameters
    ----------
    answers : SkillAnswers
    params : BktParams
        Parameters of the skill.

    Returns
    -------
    float64 array, shape (n_answers,)
    """
    before, _ = replay(answers.responses, answers.offsets, params)
    return ability(before)


def theta_by_mastery(answers: SkillAnswers) -> Floats:
    """Ability as the platform has it now, the same for all answers of a student: logit of its P(known).

    Parameters
    ----------
    answers : SkillAnswers
        With `mastery`.

    Returns
    -------
    float64 array, shape (n_answers,)
    """
    if answers.mastery is None:
        raise InvalidAttempts(f"skill {answers.skill_id!r}: its answers were read without mastery")
    return ability(np.repeat(answers.mastery, np.diff(answers.offsets)))


def calibrate_items(
    answers: SkillAnswers,
    theta: Floats,
    *,
    method: Literal["map", "ml"] = "map",
    min_answers: int = MIN_ANSWERS,
    calibrated_answers: int = CALIBRATED_ANSWERS,
) -> SkillItems:
    """Fit every item of the skill.

    Parameters
    ----------
    answers : SkillAnswers
    theta : float64 array, shape (n_answers,)
        Ability at each answer.
    method, min_answers, calibrated_answers
        As in `fit_items`.

    Returns
    -------
    SkillItems
    """
    n = len(answers.item_ids)
    by_item = np.argsort(answers.items, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(answers.items, minlength=n))]).astype(np.int64)
    fits = fit_items(
        theta[by_item],
        answers.responses[by_item],
        offsets,
        method=method,
        min_answers=min_answers,
        calibrated_answers=calibrated_answers,
    )
    return SkillItems(answers.skill_id, answers.item_ids, fits)


def right_answers(answers: SkillAnswers) -> npt.NDArray[np.int64]:
    """How many answers to each item were right, int64 of shape (n_items,)."""
    return np.bincount(answers.items, answers.responses, minlength=len(answers.item_ids)).astype(np.int64)
