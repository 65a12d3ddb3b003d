"""The prior of a school's skills: a normal distribution on the logits of their parameters.

This is empirical Bayes: the skills of a school resemble each other, so all skills together give the best guess for a
skill with few answers of its own (Efron & Morris 1973, DOI 10.1080/01621459.1973.10481350).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidParams

__all__ = ["SHIPPED_PRIOR", "Moments", "SchoolPrior", "prior_from_moments"]

Floats = npt.NDArray[np.float64]

# The shipped prior counts as this many skills when a school's prior is learned.
SHIPPED_WEIGHT = 10


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Mean and covariance of u, the logits of (p_l0, p_transit, p_slip, p_guess).

    Parameters
    ----------
    mean : float64 array, shape (4,)
        In logits.
    covariance : float64 array, shape (4, 4)
        In squared logits; symmetric (to 1e-9 of its largest value) and positive definite.

    Raises
    ------
    InvalidParams
        If a shape is wrong, a value is not finite, or the covariance is not one.

    Examples
    --------
    >>> Moments(np.zeros(4), np.eye(4)) == Moments([0, 0, 0, 0], np.eye(4))
    True
    """

    mean: Floats
    covariance: Floats

    def __post_init__(self) -> None:
        mean, covariance = _finite(self.mean, "mean", (4,)), _finite(self.covariance, "covariance", (4, 4))
        if np.abs(covariance - covariance.T).max() > 1e-9 * np.abs(covariance).max():
            raise InvalidParams("covariance is not symmetric; give a 4 x 4 matrix that equals its transpose")
        covariance = (covariance + covariance.T) / 2.0
        if _root(covariance) is None:
            raise InvalidParams("covariance is not positive definite; a variance, or a mixture, is 0 or less")
        for name, array in (("mean", mean), ("covariance", covariance)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        if self is other:
            return True
        return np.array_equal(self.mean, other.mean) and np.array_equal(self.covariance, other.covariance)

    def __hash__(self) -> int:
        return hash((self.mean.tobytes(), self.covariance.tobytes()))


class SchoolPrior(Moments):
    """The prior of every skill of a school: u ~ N(mean, covariance), u the logits of the four parameters.

    Parameters
    ----------
    mean : float64 array, shape (4,)
        In logits of p_l0, p_transit, p_slip and p_guess.
    covariance : float64 array, shape (4, 4)
        In squared logits; symmetric and positive definite.

    Raises
    ------
    InvalidParams
        If a shape is wrong, a value is not finite, or the covariance is not one.

    References
    ----------
    Efron & Morris (1973), DOI 10.1080/01621459.1973.10481350; Corbett & Anderson (1994), DOI 10.1007/BF01099821.

    Examples
    --------
    >>> (1 / (1 + np.exp(-SHIPPED_PRIOR.mean))).round(3)
    array([0.53 , 0.056, 0.196, 0.269])
    """

    __slots__ = ()

    @property
    def precision(self) -> Floats:
        """Inverse of the covariance, shape (4, 4)."""
        return _precision(self)


def prior_from_moments(moments: Iterable[Moments]) -> SchoolPrior:
    """The school's prior: one EM step from the shipped prior, which counts as 10 skills.

    With m_i and C_i the mean and covariance of skill i's posterior under the shipped prior N(mu, Sigma), n skills:

        mu'    = (sum m_i + 10 mu) / (n + 10)
        Sigma' = (sum [C_i + (m_i - mu')(m_i - mu')^T] + 10 [Sigma + (mu - mu')(mu - mu')^T]) / (n + 10)

    Sums are rounded once, so the order of the skills does not matter.

    Parameters
    ----------
    moments : iterable of Moments
        One for each skill with answers, always under `SHIPPED_PRIOR` and not under the prior that the skill was
        published with. A prior therefore cannot reinforce itself from night to night.

    Returns
    -------
    SchoolPrior
        `SHIPPED_PRIOR` itself if there are no skills.

    References
    ----------
    Dempster, Laird & Rubin (1977), DOI 10.1111/j.2517-6161.1977.tb01600.x, for EM; Efron & Morris (1973),
    DOI 10.1080/01621459.1973.10481350, for empirical Bayes.

    Examples
    --------
    >>> prior_from_moments([]) == SHIPPED_PRIOR
    True
    >>> skill = Moments(SHIPPED_PRIOR.mean + 1.0, SHIPPED_PRIOR.covariance)
    >>> (prior_from_moments([skill] * 10).mean - SHIPPED_PRIOR.mean).round(3)
    array([0.5, 0.5, 0.5, 0.5])
    """
    skills = list(moments)
    if not skills:
        return SHIPPED_PRIOR
    parts = [*skills, *[SHIPPED_PRIOR] * SHIPPED_WEIGHT]
    mean = _mean([part.mean for part in parts])
    spreads = [part.covariance + np.outer(part.mean - mean, part.mean - mean) for part in parts]
    return SchoolPrior(mean, _mean(spreads))


def _mean(arrays: list[Floats]) -> Floats:
    """Element by element, each sum rounded once."""
    stacked = np.array(arrays)
    sums = [math.fsum(column) for column in stacked.reshape(len(arrays), -1).T.tolist()]
    return np.array(sums).reshape(stacked.shape[1:]) / len(arrays)


def _finite(value: object, name: str, shape: tuple[int, ...]) -> Floats:
    # Adding 0 turns -0.0 into 0.0.
    array = np.array(value, np.float64) + 0.0
    if array.shape != shape:
        raise InvalidParams(f"{name} has shape {array.shape}; it must be {shape}")
    if not np.isfinite(array).all():
        raise InvalidParams(f"{name} holds a value that is not finite; give ordinary numbers")
    return array


def _root(matrix: Floats) -> Floats | None:
    """Lower Cholesky root of a small matrix; None if it is not positive definite.

    Not LAPACK, because its rounding depends on the build and on the number of threads; and in Python's floats, which
    are faster here.
    """
    values = matrix.tolist()
    root = [[0.0] * len(values) for _ in values]
    for row, own in enumerate(root):
        for column in range(row + 1):
            known = 0.0
            for k in range(column):
                known += own[k] * root[column][k]
            value = values[row][column] - known
            if row > column:
                own[column] = value / root[column][column]
            elif value <= 0.0:
                return None
            else:
                own[row] = math.sqrt(value)
    return np.array(root)


@lru_cache(maxsize=32)
def _precision(prior: SchoolPrior) -> Floats:
    inverse = _inverse(prior.covariance)
    inverse.flags.writeable = False
    return inverse


def _inverse(matrix: Floats) -> Floats:
    """Inverse of a small positive definite matrix, symmetric to the last digit."""
    root = _root(matrix)
    assert root is not None
    size = len(matrix)
    inner = np.zeros((size, size))
    for column in range(size):
        for row in range(column, size):
            unit = 1.0 if row == column else 0.0
            inner[row, column] = (
                unit - sum(root[row, k] * inner[k, column] for k in range(column, row))
            ) / root[row, row]
    # Row by row, because a matrix product would use BLAS, whose rounding varies too.
    return np.array(
        [
            [math.fsum((inner[:, row] * inner[:, column]).tolist()) for column in range(size)]
            for row in range(size)
        ]
    )


SHIPPED_PRIOR = SchoolPrior(
    np.array([0.12, -2.83, -1.41, -1.00]),
    np.array(
        [
            [1.92, 0.83, -0.46, 0.30],
            [0.83, 3.42, -0.51, -0.12],
            [-0.46, -0.51, 0.56, -0.28],
            [0.30, -0.12, -0.28, 0.50],
        ]
    ),
)
