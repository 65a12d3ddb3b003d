"""What a skill's answers cannot determine, as flags and numbers."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.grid import Grid
from bkt_pipeline.model.bkt.replay import answers_to_mastery
from bkt_pipeline.model.params import BktParams

__all__ = ["FLAGS", "Evidence", "Tier", "evidence", "on_edge"]

# Above this, wrong answers of students who know the skill say more about its items than about the students.
HIGH_SLIP = 0.4

FLAGS = {
    "transit_unidentified": "no student has two attempts, so nothing is known about learning",
    "all_right": "every answer is right",
    "all_wrong": "every answer is wrong",
    "slip_high": f"p_slip is above {HIGH_SLIP:g}",
    "transit_exceeds_bound": "p_transit is above 1 - p_slip / (1 - p_guess), so a wrong answer cannot lower P(known)",
}


class Tier(StrEnum):
    """How reliable a calibration is, by the number of students, because students carry the information."""

    INSUFFICIENT = "insufficient"
    PROVISIONAL = "provisional"
    USABLE = "usable"
    GOOD = "good"

    @classmethod
    def of(cls, n_students: int) -> "Tier":
        """The tier for this number of students.

        Examples
        --------
        >>> [str(Tier.of(n)) for n in (29, 30, 100, 300)]
        ['insufficient', 'provisional', 'usable', 'good']
        """
        if n_students < 30:
            return cls.INSUFFICIENT
        if n_students < 100:
            return cls.PROVISIONAL
        return cls.USABLE if n_students < 300 else cls.GOOD


@dataclass(frozen=True, slots=True)
class Evidence:
    """How much the answers can determine.

    Parameters
    ----------
    tier : Tier
        From the number of students.
    flags : tuple of str
        The `FLAGS` that apply, in the order of `FLAGS`.
    answers_to_mastery : int or None
        Right answers in a row until P(known) reaches 0.95; None if it never does.
    share_with_three : float
        Share of students with three or more attempts.
    """

    tier: Tier
    flags: tuple[str, ...]
    answers_to_mastery: int | None
    share_with_three: float


def evidence(window: AttemptWindow, params: BktParams) -> Evidence:
    """What the answers of a window can determine about the parameters that were fitted to them.

    A wrong answer raises P(known), whatever its value before, if

        p_transit > 1 - p_slip / (1 - p_guess)

    (the condition is strictest for a P(known) near 1).

    Parameters
    ----------
    window : AttemptWindow
        If it is empty, no flag is set.
    params : BktParams
        The published parameters.

    Returns
    -------
    Evidence

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> window = simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=40, seed=1, lengths=1)
    >>> evidence(window, BktParams(0.5, 0.5, 0.45, 0.2)).flags
    ('transit_unidentified', 'slip_high', 'transit_exceeds_bound')
    """
    lengths = np.diff(window.offsets)
    right = int(np.count_nonzero(window.responses))
    _, transit, slip, guess = params.values
    holds = (
        lengths.max(initial=0) < 2,
        right == window.n_attempts,
        right == 0,
        slip > HIGH_SLIP,
        transit > 1.0 - slip / (1.0 - guess),
    )
    return Evidence(
        tier=Tier.of(window.n_students),
        flags=tuple(flag for flag, held in zip(FLAGS, holds, strict=True) if held and window.n_students),
        answers_to_mastery=answers_to_mastery(params),
        share_with_three=int(np.count_nonzero(lengths >= 3)) / lengths.size if lengths.size else 0.0,
    )


def on_edge(params: BktParams, grid: Grid) -> int:
    """How many of the grid winner's parameters are the first or last value of their axis; fixed ones do not count.

    This is a number and not a flag, because the winner of most real skills has one.

    Parameters
    ----------
    params : BktParams
        The grid's winner.
    grid : Grid
        The grid that was searched.

    Returns
    -------
    int

    Examples
    --------
    >>> from bkt_pipeline.model.bkt.grid import DEFAULT_GRID
    >>> on_edge(BktParams(0.5, 0.05, 0.1, 0.5), DEFAULT_GRID)
    2
    """
    axes = (grid.p_l0.values, grid.p_transit.values, *grid.slip_guess.T.tolist())
    return sum(
        min(axis) < max(axis) and value in (min(axis), max(axis))
        for value, axis in zip(params.values, axes, strict=True)
        if axis
    )
