"""The update that a tutor makes after every answer.

`bkt_pipeline.bkt_update` is the same in SQL. An implementation in another language is checked against
`update_vectors.json`, which lies beside this module.
"""

from numbers import Real
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidAttempts, InvalidParams
from bkt_pipeline.model.bkt.replay import DOUBT, predict
from bkt_pipeline.model.params import BktParams

__all__ = ["update"]

Floats = npt.NDArray[np.float64]


@overload
def update(p_known: float | None, right: bool | None, params: BktParams) -> float: ...
@overload
def update(
    p_known: npt.ArrayLike | None, right: npt.ArrayLike | None, params: BktParams
) -> float | Floats: ...


def update(p_known: Any, right: Any, params: BktParams) -> Any:
    """P(known) after an answer: updated by the answer, and by the chance to learn that follows it.

        P(right)         = P(known) (1 - p_slip) + (1 - P(known)) p_guess
        P(known | right) = P(known) (1 - p_slip) / P(right)
        P(known | wrong) = P(known) p_slip / (P(known) p_slip + (1 - P(known)) (1 - p_guess))
        P(known after)   = P(known | answer) + (1 - P(known | answer)) p_transit

    P(known) is kept 1e-12 away from 0 and 1, before and after, so that every answer can still move it. Slip and guess
    are used as they are, also if they are 0. `replay` moves them by 1e-12, and is otherwise equal to repeated updates
    to within rounding, until P(known) comes that close to 0 or 1.

    Parameters
    ----------
    p_known : float or array
        P(known) before the answer, in [0, 1]. None: the student has not answered the skill yet, so it is the prior.
    right : bool or array
        Whether the answer was right; 0 and 1 are accepted as any kind of number. None, also as an element: the answer
        is not graded. It is not evidence, and the state stays, as calibration leaves such an attempt out.
    params : BktParams
        Parameters of the skill.

    Returns
    -------
    float, or float64 array
        In [1e-12, 1 - 1e-12]; of the shape to which `p_known` and `right` broadcast.

    Raises
    ------
    InvalidParams
        If `p_known` is not a number in [0, 1].
    InvalidAttempts
        If `right` is something else.

    References
    ----------
    Corbett & Anderson (1994), DOI 10.1007/BF01099821.

    Examples
    --------
    >>> params = BktParams(0.3, 0.1, 0.1, 0.2)
    >>> first = update(None, True, params)
    >>> round(first, 3), round(update(first, False, params), 3), update(first, None, params) == first
    (0.693, 0.298, True)
    >>> update(np.array([0.3, 0.693]), [True, False], params).round(3)
    array([0.693, 0.298])
    """
    known = np.clip(_probabilities(params.p_l0 if p_known is None else p_known), DOUBT, 1.0 - DOUBT)
    answer = _answers(right)
    if_right = known * (1.0 - params.p_slip) / predict(known, params)
    wrong = known * params.p_slip
    if_wrong = wrong / (wrong + (1.0 - known) * (1.0 - params.p_guess))
    seen = np.where(answer == 1, if_right, if_wrong)
    after = np.clip(seen + (1.0 - seen) * params.p_transit, DOUBT, 1.0 - DOUBT)
    after = np.where(answer == _UNGRADED, known, after)
    return after if after.ndim else float(after)


_UNGRADED = -1


def _probabilities(value: Any) -> Floats:
    try:
        known = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise InvalidParams(f"p_known is a {type(value).__name__}; give numbers in [0, 1]") from None
    wrong = ~((known >= 0.0) & (known <= 1.0))
    if wrong.any():
        raise InvalidParams(f"p_known is {known[wrong].flat[0]}; it must be a number in [0, 1]")
    return known


def _answers(value: Any) -> npt.NDArray[np.int8]:
    """1 right, 0 wrong, -1 not graded."""
    given = np.asarray(value)
    if given.dtype.kind not in "biuf":
        flat = [_answer(one) for one in given.astype(object).ravel()]
        return np.array(flat, np.int8).reshape(given.shape)
    odd = (given != 0) & (given != 1)
    if odd.any():
        _answer(given[odd].flat[0])
    return given.astype(np.int8)


def _answer(one: Any) -> int:
    if one is None:
        return _UNGRADED
    if not isinstance(one, Real | np.bool_) or one not in (0, 1):
        raise InvalidAttempts(
            f"right is {one}; an answer is True, False, 1 or 0, and None if it is not graded yet"
        )
    return 1 if one == 1 else 0
