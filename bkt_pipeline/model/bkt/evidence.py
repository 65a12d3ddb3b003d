"""What a skill's answers cannot tell, said in names and numbers."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.grid import Grid
from bkt_pipeline.model.bkt.replay import answers_to_mastery
from bkt_pipeline.model.params import BktParams

__all__ = ["FLAGS", "Evidence", "Tier", "evidence"]

# Beyond this, wrong answers of students who know the skill say more about its items than about the students.
HIGH_SLIP = 0.4

FLAGS = {
    "transit_unidentified": "no student has two attempts, so nothing is known about learning",
    "all_right": "every answer is right",
    "all_wrong": "every answer is wrong",
    "p_l0_on_edge": "p_l0 is the first or the last value of the grid",
    "p_transit_on_edge": "p_transit is the first or the last value of the grid",
    "p_slip_on_edge": "p_slip is the first or the last value of the grid",
    "p_guess_on_edge": "p_guess is the first or the last value of the grid",
    "slip_high": f"p_slip is above {HIGH_SLIP:g}",
    "transit_exceeds_bound": "p_transit is above (1 - p_slip) / (1 - p_guess)",
}


class Tier(StrEnum):
    """How far a calibration can be relied on, by the number of students: it is they who carry the information."""

    INSUFFICIENT = "insufficient"
    PROVISIONAL = "provisional"
    USABLE = "usable"
    GOOD = "good"

    @classmethod
    def of(cls, n_students: int) -> "Tier":
        """The tier of so many students.

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
    """How much the answers can tell.

    Parameters
    ----------
    tier : Tier
        By the number of students.
    flags : tuple of str
        Those of `FLAGS` that hold, in their order there.
    answers_to_mastery : int or None
        Right answers in a row until P(known) reaches 0.95; None for never.
    share_with_three : float
        Share of students with three or more attempts.
    """

    tier: Tier
    flags: tuple[str, ...]
    answers_to_mastery: int | None
    share_with_three: float


def evidence(window: AttemptWindow, params: BktParams, grid: Grid) -> Evidence:
    """What the answers of a window can tell about the parameters that were fitted to them.

    Parameters
    ----------
    window : AttemptWindow
        At least one student.
    params : BktParams
        The grid's winner, or any other parameters; without a log-likelihood they are not held against the
        grid.
    grid : Grid
        Where they were looked for.

    Returns
    -------
    Evidence

    Examples
    --------
    >>> from bkt_pipeline.model import DEFAULT_GRID
    >>> from bkt_pipeline.model.simulate import simulate
    >>> window = simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=40, seed=1, lengths=1)
    >>> evidence(window, BktParams(0.5, 0.05, 0.45, 0.2, -20.0), DEFAULT_GRID).flags
    ('transit_unidentified', 'p_transit_on_edge', 'slip_high')
    """
    lengths = np.diff(window.offsets)
    right = int(window.responses.sum())
    prior, transit, slip, guess = params.values
    edges = (
        (prior, grid.p_l0.values),
        (transit, grid.p_transit.values),
        (slip, grid.slip_guess[:, 0]),
        (guess, grid.slip_guess[:, 1]),
    )
    fitted = params.log_likelihood is not None
    holds = (
        lengths.max() < 2,
        right == window.n_attempts,
        right == 0,
        *(
            fitted and min(values) < max(values) and value in (min(values), max(values))
            for value, values in edges
        ),
        slip > HIGH_SLIP,
        transit > (1.0 - slip) / (1.0 - guess),
    )
    return Evidence(
        tier=Tier.of(window.n_students),
        flags=tuple(flag for flag, held in zip(FLAGS, holds, strict=True) if held),
        answers_to_mastery=answers_to_mastery(params),
        share_with_three=float(np.mean(lengths >= 3)),
    )
