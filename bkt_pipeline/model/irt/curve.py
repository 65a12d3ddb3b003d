"""The item response curve: ability, P(right) and information.

    P(right | theta) = 1 / (1 + exp(-a (theta - b)))

The ability of a student at an answer is eta, the logit of the P(right) that Bayesian Knowledge Tracing predicts before
the answer (see `ability`). On that scale, an average item of any skill has a = 1 and b = 0, regardless of the skill's
slip and guess, and an item's b is how much harder it is than average, in logits. The logit of P(known) does not have
this property: on that scale, the average item has a different a and b in every skill.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["P_RIGHT_BOUNDS", "ability", "information", "probability"]

# Keeps eta finite if slip or guess is near 0, so that one surprising answer costs an item at most 7 nats.
P_RIGHT_BOUNDS = (0.001, 0.999)


def ability(p_right: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Ability eta: the logit of the predicted P(right), clipped to [0.001, 0.999] first.

    Parameters
    ----------
    p_right : array_like of float
        P(right) that the model predicts before the answer, any shape; `predict` computes it from P(known).

    Returns
    -------
    float64, same shape
        Logits in [-6.907, 6.907]; NaN if `p_right` is not a probability, so that the fit can report the item.

    Examples
    --------
    >>> ability([0.0, 0.5, 0.8, 1.0]).round(3)
    array([-6.907,  0.   ,  1.386,  6.907])
    """
    p = np.asarray(p_right, dtype=np.float64)
    # A computed probability may exceed 0 or 1 by a rounding error.
    p = np.where(np.abs(p - 0.5) <= 0.5 + 1e-9, np.clip(p, *P_RIGHT_BOUNDS), np.nan)
    return np.log(p) - np.log1p(-p)


def probability(theta: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """P(right | theta) of the 2PL.

    Parameters
    ----------
    theta, a, b : array_like of float
        Ability (logits), discrimination, difficulty (logits); shapes that broadcast.

    Returns
    -------
    float64, the broadcast shape
        1 / (1 + exp(-a (theta - b))), without overflow.

    Examples
    --------
    >>> probability([-1.0, 0.0, 1.0], a=2.0, b=0.0).round(3)
    array([0.119, 0.5  , 0.881])
    """
    z = np.asarray(a, dtype=np.float64) * (
        np.asarray(theta, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    )
    tail = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1.0, tail) / (1.0 + tail), dtype=np.float64)


def information(theta: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Fisher information of one answer on theta: a^2 P (1 - P) (Birnbaum 1968). Highest at theta = b.

    Parameters
    ----------
    theta, a, b : array_like of float
        Ability (logits), discrimination, difficulty (logits); shapes that broadcast.

    Returns
    -------
    float64, the broadcast shape
        Information per answer, in 1 / logit^2; 1 / sqrt of a test's sum is the standard error of its theta.

    Examples
    --------
    >>> information([-1.0, 0.0, 1.0], a=2.0, b=0.0).round(3)
    array([0.42, 1.  , 0.42])
    """
    a = np.asarray(a, dtype=np.float64)
    # 1 - P is computed as P of the mirrored curve, because the difference would round to 0 far above b.
    p, q = probability(theta, a, b), probability(-np.asarray(theta, dtype=np.float64), a, -np.asarray(b))
    return np.asarray(a * a * p * q, dtype=np.float64)
