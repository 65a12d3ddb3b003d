"""Mastery replay: the P(known) that a tutor would have had before and after each attempt."""

from typing import overload

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidAttempts
from bkt_pipeline.model.params import BktParams

__all__ = ["DOUBT", "MASTERY", "answers_to_mastery", "predict", "replay"]

Floats = npt.NDArray[np.float64]

# A skill counts as mastered from this P(known) on (Corbett & Anderson 1994).
MASTERY = 0.95
# Probabilities of 0 and 1 are moved by this much, so that no answer is impossible and every one moves P(known).
DOUBT = 1e-12


def replay(
    responses: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], params: BktParams
) -> tuple[Floats, Floats]:
    """P(known) before and after each attempt of many students.

    Parameters
    ----------
    responses : uint8 array, shape (n_attempts,)
        1 right, 0 wrong; the students' sequences one after another, as in `AttemptWindow`.
    offsets : int64 array, shape (n_students + 1,)
        Where each sequence begins.
    params : BktParams
        Parameters of the skill. A prior, slip or guess of 0 and a prior or transit of 1 are moved by 1e-12.

    Returns
    -------
    before, after : float64 array, shape (n_attempts,)
        P(known) before each attempt, and after it, updated by the answer and by the chance to learn. The value after
        an attempt is the value before the student's next one.

    Raises
    ------
    InvalidAttempts
        If `offsets` does not begin at 0, decreases, or does not end at the number of responses.

    References
    ----------
    Corbett & Anderson (1994), DOI 10.1007/BF01099821.

    Examples
    --------
    >>> responses, offsets = np.array([1, 1, 0, 1], np.uint8), np.array([0, 3, 4])
    >>> before, after = replay(responses, offsets, BktParams(0.3, 0.1, 0.1, 0.2))
    >>> before.round(3)
    array([0.3  , 0.693, 0.919, 0.3  ])
    >>> after.round(3)
    array([0.693, 0.919, 0.629, 0.693])
    """
    responses = np.ascontiguousarray(responses, np.uint8)
    offsets = np.ascontiguousarray(offsets, np.int64)
    if offsets.size < 1 or offsets[0] != 0 or offsets[-1] != responses.size or np.any(np.diff(offsets) < 0):
        raise InvalidAttempts(
            f"offsets do not cut {responses.size} responses into sequences; "
            "they must rise from 0 to that number"
        )
    return replayed(responses, offsets, params)


def replayed(
    responses: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], params: BktParams
) -> tuple[Floats, Floats]:
    """As `replay`, for arrays that are known to be valid, such as a window's."""
    from bkt_pipeline.model.kernels import replay as _replay

    before, after = np.empty(responses.size), np.empty(responses.size)
    prior = min(max(params.p_l0, DOUBT), 1.0 - DOUBT)
    transit = min(params.p_transit, 1.0 - DOUBT) if params.p_transit > DOUBT else 0.0
    slip, guess = max(params.p_slip, DOUBT), max(params.p_guess, DOUBT)
    _replay.replay(responses, offsets, prior, transit, slip, guess, before, after)
    return before, after


@overload
def predict(known: float | None, params: BktParams) -> float: ...
@overload
def predict(known: Floats, params: BktParams) -> Floats: ...


def predict(known: float | Floats | None, params: BktParams) -> float | Floats:
    """P(right) of an attempt, if the skill is known with probability `known` before it.

        P(right) = P(known) (1 - p_slip) + (1 - P(known)) p_guess

    Parameters
    ----------
    known : float, or float64 array of any shape
        None: the student has not answered the skill yet, so it is the prior.
    params : BktParams

    Returns
    -------
    float, or float64 array of the same shape

    References
    ----------
    Corbett & Anderson (1994), DOI 10.1007/BF01099821.

    Examples
    --------
    >>> round(predict(None, BktParams(0.3, 0.1, 0.1, 0.2)), 2)
    0.41
    >>> predict(np.array([0.0, 0.5, 1.0]), BktParams(0.3, 0.1, 0.1, 0.2)).round(3)
    array([0.2 , 0.55, 0.9 ])
    """
    if known is None:
        known = params.p_l0
    return known * (1.0 - params.p_slip) + (1.0 - known) * params.p_guess


def answers_to_mastery(params: BktParams) -> int | None:
    """How many right answers in a row raise a new student's P(known) to 0.95.

    Parameters
    ----------
    params : BktParams

    Returns
    -------
    int or None
        0 if the prior is already that high; None if no number of answers is enough.

    Examples
    --------
    >>> answers_to_mastery(BktParams(0.3, 0.1, 0.1, 0.2))
    3
    >>> answers_to_mastery(BktParams(0.0, 0.0, 0.1, 0.2)) is None
    True
    """
    known, unknown = params.p_l0, 1.0 - params.p_l0
    answers = 0
    while known < MASTERY:
        right = known * (1.0 - params.p_slip) + unknown * params.p_guess
        if right == 0.0:
            return None
        better = (known * (1.0 - params.p_slip) + unknown * params.p_guess * params.p_transit) / right
        if better <= known:
            return None
        known, unknown = better, unknown * params.p_guess * (1.0 - params.p_transit) / right
        answers += 1
    return answers
