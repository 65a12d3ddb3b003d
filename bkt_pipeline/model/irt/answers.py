"""The graded answers to a skill and its items, and their order for the fits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidAttempts

__all__ = ["SkillAnswers", "by_item", "right_answers"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class SkillAnswers:
    """The graded answers to one skill, one sequence per student, with the item of each answer.

    Parameters
    ----------
    skill_id : str
    item_ids : tuple of str, length n_items
        The distinct items that were answered.
    items : int64 array, shape (n_answers,)
        The index in `item_ids` of each answer's item.
    responses : uint8 array, shape (n_answers,)
        1 right, 0 wrong; each student's answers in the order in which they were given.
    offsets : int64 array, shape (n_students + 1,)
        Where each student's sequence begins.
    mastery : float64 array, shape (n_students,), optional
        P(known) that the platform keeps for each student.
    held_out : bool array, shape (n_students,), optional
        Whose answers evaluate the models and are not fitted: `prediction.are_held_out` of the student ids.

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
    held_out: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        n, items = self.responses.size, len(self.item_ids)
        fits = self.items.shape == (n,) and self.offsets[-1] == n
        if not fits or (n and not 0 <= self.items.min() <= self.items.max() < items):
            raise InvalidAttempts(
                f"skill {self.skill_id!r}: {n} answers, {self.items.size} items of answers out of {items}, "
                f"offsets to {self.offsets[-1]} do not fit together"
            )

    def of_students(self, chosen: npt.NDArray[np.bool_]) -> "SkillAnswers":
        """The answers of the chosen students, bool of shape (n_students,), with the same item_ids."""
        lengths = np.diff(self.offsets)
        answers = np.repeat(chosen, lengths)
        return SkillAnswers(
            self.skill_id,
            self.item_ids,
            self.items[answers],
            self.responses[answers],
            _starts(lengths[chosen]),
            None if self.mastery is None else self.mastery[chosen],
            None if self.held_out is None else self.held_out[chosen],
        )

    def __repr__(self) -> str:
        return (
            f"SkillAnswers(skill_id={self.skill_id!r}, {self.n_answers} answers, {len(self.item_ids)} items)"
        )

    @property
    def n_answers(self) -> int:
        """Number of answers of all students to all items."""
        return int(self.responses.size)

    @property
    def n_students(self) -> int:
        """Number of students who answered."""
        return int(self.offsets.size) - 1


def by_item(
    skills: Sequence[SkillAnswers], thetas: Sequence[Floats]
) -> tuple[tuple[Floats, npt.NDArray[np.uint8], npt.NDArray[np.int64]], npt.NDArray[np.int64]]:
    """The answers of several skills, item after item, as `fit_items` takes them.

    Parameters
    ----------
    skills : sequence of SkillAnswers
    thetas : sequence of float64 arrays, shape (n_answers,)
        Ability at each answer, for each skill.

    Returns
    -------
    (theta, responses, offsets), bounds
        The arguments of `fit_items`, and where each skill's items begin, int64 of shape (n_skills + 1,).

    Examples
    --------
    >>> answers = SkillAnswers("s", ("i", "j"), np.array([0, 1, 0]), np.array([1, 0, 0], np.uint8), np.array([0, 3]))
    >>> given, bounds = by_item([answers, answers], [np.array([0.1, 0.2, 0.3])] * 2)
    >>> [array.tolist() for array in given], bounds
    ([[0.1, 0.3, 0.2, 0.1, 0.3, 0.2], [1, 0, 0, 1, 0, 0], [0, 2, 3, 5, 6]], array([0, 2, 4]))
    """
    orders = [np.argsort(answers.items, kind="stable") for answers in skills]
    counts = [np.bincount(answers.items, minlength=len(answers.item_ids)) for answers in skills]
    responses = [answers.responses for answers in skills]
    return (
        np.concatenate([theta[order] for theta, order in zip(thetas, orders, strict=True)]),
        np.concatenate([right[order] for right, order in zip(responses, orders, strict=True)]),
        _starts(np.concatenate(counts)),
    ), _starts([len(answers.item_ids) for answers in skills])


def right_answers(answers: SkillAnswers) -> npt.NDArray[np.int64]:
    """How many answers to each item were right, int64 of shape (n_items,)."""
    return np.bincount(answers.items, answers.responses, minlength=len(answers.item_ids)).astype(np.int64)


def _starts(sizes: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Where each of several parts begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
