"""Finds the maximum of a likelihood or a posterior by climbing from several points of a coarse lattice.

Everything here uses u, the logits of (p_l0, p_transit, p_slip, p_guess). Each probability is at least 1e-4 from 0 and
from 1; slip and guess are at most 0.5.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.prior import SchoolPrior

__all__ = [
    "COARSE",
    "COARSE_NODES",
    "HIGH",
    "LOW",
    "bends",
    "lattice",
    "lattices",
    "logits",
    "optimum",
    "values_at",
]

Floats = npt.NDArray[np.float64]

# The least distance of a value from 0, and of p_l0 and p_transit from 1. The grid's floor of 0.05 hides slow learning.
_LEAST = 1e-4


def logits(values: npt.ArrayLike) -> Floats:
    """log(p / (1 - p)) of probabilities, clipped to [1e-4, 1 - 1e-4]."""
    inside = np.minimum(np.maximum(np.asarray(values, np.float64), _LEAST), 1.0 - _LEAST)
    odds: Floats = np.log(inside / (1.0 - inside))
    return odds


# Bounds of the logits.
LOW = logits([_LEAST] * 4)
HIGH = logits([1.0 - _LEAST, 1.0 - _LEAST, 0.5, 0.5])

_ERRS = logits([_LEAST, 0.006, 0.025, 0.065, 0.13, 0.22, 0.34, 0.5])
# The axes of the lattice that the climbs start from. They cover the whole domain, more densely where most skills are.
COARSE = (
    logits([_LEAST, 0.01, 0.05, 0.12, 0.22, 0.35, 0.5, 0.65, 0.78, 0.88, 0.95, 0.99, 1.0 - _LEAST]),
    logits([_LEAST, 0.0015, 0.006, 0.02, 0.05, 0.11, 0.22, 0.4, 0.65, 0.9, 1.0 - _LEAST]),
    _ERRS,
    _ERRS,
)
# The same as one array, filled up with zeros.
COARSE_NODES = np.zeros((4, max(axis.size for axis in COARSE)))
for _row, _axis in zip(COARSE_NODES, COARSE, strict=True):
    _row[: _axis.size] = _axis
_COARSE = [axis.tolist() for axis in COARSE]
# How far apart neighbours on each axis are in the flat lattice, and how many there are.
_STEPS = [(math.prod(axis.size for axis in COARSE[k + 1 :]), COARSE[k].size) for k in range(4)]

_STARTS = 3
# Two starts are more than this many lattice steps apart on at least one axis.
_APART = 2
# Read-only like a prior's arrays, because numba would compile a kernel again for writable arrays.
_NO_PRIOR = np.zeros(4), np.zeros((4, 4))
for _array in _NO_PRIOR:
    _array.flags.writeable = False
# Keeps slip + guess below 1 if both end at 0.5.
_BELOW = 1e-6


def lattice(answers: DistinctSequences, axes: tuple[Floats, ...]) -> Floats:
    """Log-likelihood at every combination of logits, of all sides together.

    Parameters
    ----------
    answers : DistinctSequences
        Without sequences, the log-likelihood is 0.
    axes : tuple of four float64 arrays
        Logits of p_l0, p_transit, p_slip and p_guess, rising.

    Returns
    -------
    float64 array, shape (n_prior, n_transit, n_slip, n_guess)
        Nats.
    """
    by_side = lattices(answers, axes)
    total: Floats = by_side.sum(axis=0) if len(by_side) > 1 else by_side[0]
    return total


def lattices(answers: DistinctSequences, axes: tuple[Floats, ...]) -> Floats:
    """The same for each side, shape (n_sides, n_prior, n_transit, n_slip, n_guess)."""
    shape = tuple(axis.size for axis in axes)
    if not answers.counts.size:
        return np.zeros((answers.count.shape[1], *shape))
    prior, transit, slip, guess = (1.0 / (1.0 + np.exp(-axis)) for axis in axes)
    lanes = np.empty((*shape[1:], 3))
    lanes[..., 0], lanes[..., 1], lanes[..., 2] = transit[:, None, None], slip[:, None], guess
    least = float(min(slip[0], guess[0], 1.0 - slip[-1], 1.0 - guess[-1]))
    return answers.composed(prior, least)(prior, lanes.reshape(-1, 3)).reshape(-1, *shape)


def optimum(
    window: AttemptWindow,
    answers: DistinctSequences,
    coarse: Floats,
    prior: SchoolPrior | None = None,
    *,
    high: Floats = HIGH,
    extra: tuple[Floats, ...] = (),
) -> Floats:
    """The highest point that is reached by climbing from several points of the coarse lattice.

    One of these points is the best of the lattice, and no climb goes down, so the result is never below any point of
    the lattice.

    Parameters
    ----------
    window : AttemptWindow
    answers : DistinctSequences
        The window's sequences, or those of some students.
    coarse : float64 array, shape (n_prior, n_transit, n_slip, n_guess)
        Their log-likelihood on `COARSE`, in nats.
    prior : SchoolPrior, optional
        If given, the result is the mode of log-likelihood + log prior, otherwise the likelihood's optimum.
    high : float64 array, shape (4,)
        Upper bounds, in logits.
    extra : tuple of float64 arrays, shape (4,)
        More points to start from, in logits.

    Returns
    -------
    float64 array, shape (4,)
        In logits.
    """
    from bkt_pipeline.model.kernels.climb import climb

    objective = coarse + _log_prior(prior) if prior else coarse.copy()
    for axis in np.flatnonzero(high < HIGH):
        np.moveaxis(objective, axis, 0)[COARSE[axis] > high[axis]] = -math.inf
    starts, point = np.array([*extra, *_starts(objective)]), np.empty(4)
    sequences = (window.responses, window.offsets, answers.students, answers.counts)
    climb(*sequences, starts, *_normal(prior), LOW, high, point)
    return point


def bends(window: AttemptWindow, answers: DistinctSequences, point: Floats, prior: SchoolPrior) -> Floats:
    """The negative second derivatives of the log-posterior with respect to the logits at a point, shape (4, 4)."""
    from bkt_pipeline.model.kernels.climb import curvature, slopes

    sequences = (window.responses, window.offsets, answers.students, answers.counts)
    here, out = np.empty(5), np.empty((4, 4))
    slopes(*sequences, point, *_normal(prior), here)
    curvature(*sequences, point, *_normal(prior), HIGH, here, out)
    return out


def values_at(
    point: Floats, max_slip: float = 0.5, max_guess: float = 0.5
) -> tuple[float, float, float, float]:
    """The parameters' values for these logits, within their bounds and with slip + guess below 1."""
    prior, transit, slip, guess = (1.0 / (1.0 + math.exp(-value)) for value in point.tolist())
    slip = min(slip, max_slip)
    return prior, transit, slip, min(guess, max_guess, 1.0 - _BELOW - slip)


def _normal(prior: SchoolPrior | None) -> tuple[Floats, Floats]:
    """Mean and precision, in the form for the kernels."""
    return (prior.mean, prior.precision) if prior else _NO_PRIOR


@lru_cache(maxsize=32)
def _log_prior(prior: SchoolPrior) -> Floats:
    """Log of the prior's density on `COARSE`, without its constant."""
    away = np.stack(
        np.meshgrid(*(axis - mean for axis, mean in zip(COARSE, prior.mean, strict=True)), indexing="ij")
    )
    total = np.zeros(away.shape[1:])
    for i in range(4):
        for j in range(4):
            total -= 0.5 * prior.precision[i, j] * away[i] * away[j]
    return total


def _starts(objective: Floats) -> list[list[float]]:
    """The best point of the lattice, then the best point that is not near it, and so on; overwrites `objective`."""
    starts: list[list[float]] = []
    flat = objective.reshape(-1)
    for _ in range(_STARTS):
        place = int(flat.argmax())
        if flat[place] == -math.inf:
            break
        best = [place // step % size for step, size in _STEPS]
        starts.append([axis[i] for axis, i in zip(_COARSE, best, strict=True)])
        objective[tuple(slice(max(i - _APART, 0), i + _APART + 1) for i in best)] = -math.inf
    return starts
