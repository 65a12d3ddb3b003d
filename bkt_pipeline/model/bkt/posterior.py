"""The posterior of the parameters under a prior, summed over a lattice in logit space.

The coarse lattice that the climbs start from shows where the posterior is concentrated. A second lattice covers that
region, and is narrowed or widened until the posterior fills it. The posterior is not assumed to be normal, so bounds and
curved ridges are represented.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.optimum import COARSE, HIGH, LOW, bends, lattice
from bkt_pipeline.model.bkt.prior import Moments, SchoolPrior

__all__ = ["Axes", "Posterior", "posteriors"]

Floats = npt.NDArray[np.float64]
Axes = tuple[Floats, ...]

# Points of the lattice on each axis. With one point per standard deviation or more, the sum over a smooth peak is exact
# to about a percent.
_POINTS = (16, 12, 10, 10)
_MOST = max(_POINTS)
# Points that are more nats below the mode than this are ignored: 3.5 standard deviations.
_DEPTH = 6.0
# The lattice is wide enough if its ends are this many nats below the mode, and narrow enough if the region fills this
# share of every axis.
_ENDS = 4.5
_FILLED = 0.6
# If the region continues beyond the lattice, the lattice grows by this share of the axis.
_GROWTH = 0.4
_ROUNDS = 6
# Half the width of the first lattice, in standard deviations from the curvature at the mode. A standard deviation counts
# as at most this many of the prior's.
_SPREAD = 4.0
_WIDEST = 1.2
# Weights at an end where the posterior does not vanish: exact to the third order (Gregory's rule).
_END = np.array([3 / 8, 7 / 6, 23 / 24])


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """A posterior of the logits, summed over a lattice.

    Parameters
    ----------
    moments : Moments
        Its mean and covariance.
    margins : tuple of four float64 arrays
        The density of each logit at the lattice's values, not normalised.
    """

    moments: Moments
    margins: Axes


@dataclass(frozen=True, slots=True, eq=False)
class _Lattice:
    """The axes of a lattice: their sizes, their logits and the width that each logit represents, (4, _MOST)."""

    sizes: list[int]
    nodes: Floats
    cells: Floats

    @classmethod
    def of(cls, axes: Axes) -> "_Lattice":
        nodes, cells = np.zeros((4, _MOST)), np.zeros((4, _MOST))
        for k, axis in enumerate(axes):
            nodes[k, : axis.size] = axis
            widths = cells[k, : axis.size]
            widths[:] = axis[1] - axis[0]
            widths[:3] *= _END
            widths[-3:] *= _END[::-1]
        return cls([axis.size for axis in axes], nodes, cells)

    def within(self, profile: Floats) -> list[tuple[list[float], int, int]]:
        """Of each axis, the nats below the mode, and the first and the last point within _DEPTH of it."""
        found = []
        for row, size in zip(profile.tolist(), self.sizes, strict=True):
            top = max(row)
            below = [top - value for value in row[:size]]
            matters = [value <= _DEPTH for value in below]
            found.append((below, matters.index(True), size - 1 - matters[::-1].index(True)))
        return found


def posteriors(
    window: AttemptWindow,
    answers: DistinctSequences,
    coarse: Floats,
    mode: Floats,
    priors: tuple[SchoolPrior, ...],
) -> tuple[Axes, Floats, tuple[Posterior, ...]]:
    """The posteriors under one or more priors, on one lattice that covers them all.

    Parameters
    ----------
    window : AttemptWindow
    answers : DistinctSequences
        The window's sequences.
    coarse : float64 array, shape (n_prior, n_transit, n_slip, n_guess)
        Log-likelihood on `optimum.COARSE`, in nats.
    mode : float64 array, shape (4,)
        Logits where the posterior under the first prior is highest.
    priors : tuple of SchoolPrior
        At least one.

    Returns
    -------
    axes : tuple of four float64 arrays
        Logits of the lattice.
    surface : float64 array, shape (n_prior, n_transit, n_slip, n_guess)
        Log-likelihood on it, in nats.
    posteriors : tuple of Posterior
        One for each prior.
    """
    box = _first_box(window, answers, coarse, mode, priors)
    height = _workspace(_POINTS)
    for _ in range(_ROUNDS):
        axes = tuple(_axis(low, high, n) for (low, high), n in zip(box.tolist(), _POINTS, strict=True))
        surface = lattice(answers, axes)
        own = _Lattice.of(axes)
        region, complete = _region(
            own, [own.within(_profile(surface, own, prior, height)) for prior in priors]
        )
        if complete and np.all(np.ptp(region, axis=1) >= _FILLED * np.ptp(box, axis=1)):
            break
        box = region
    return axes, surface, tuple(_posterior(surface, own, prior, height) for prior in priors)


def _axis(low: float, high: float, n: int) -> Floats:
    """As numpy's linspace, but several times as fast."""
    axis = np.arange(n, dtype=np.float64)
    axis *= (high - low) / (n - 1)
    axis += low
    axis[-1] = high
    return axis


def _first_box(
    window: AttemptWindow,
    answers: DistinctSequences,
    coarse: Floats,
    mode: Floats,
    priors: tuple[SchoolPrior, ...],
) -> Floats:
    """The region of the posterior, from its curvature at the mode and from the coarse lattice, shape (4, 2)."""
    spread = _SPREAD * _deviations(bends(window, answers, mode, priors[0]), priors[0])
    low, high = mode - spread, mode + spread
    height = _workspace(coarse.shape)
    for prior in priors:
        for k, (_, first, last) in enumerate(_coarse().within(_profile(coarse, _coarse(), prior, height))):
            low[k], high[k] = min(low[k], COARSE[k][first]), max(high[k], COARSE[k][last])
    return np.clip(np.stack([low, high], axis=1), LOW[:, None], HIGH[:, None])


def _workspace(shape: tuple[int, ...]) -> Floats:
    return np.empty((shape[0] * shape[1], shape[2] * shape[3]))


@cache
def _coarse() -> _Lattice:
    return _Lattice.of(COARSE)


def _deviations(curvature: Floats, prior: SchoolPrior) -> Floats:
    """Standard deviations of the normal distribution with this curvature, limited by the prior's, shape (4,)."""
    widest = _WIDEST * np.sqrt(np.diag(prior.covariance))
    try:
        variances = np.diag(np.linalg.inv(curvature))
    except np.linalg.LinAlgError:
        return widest
    return np.where(variances > 0.0, np.minimum(np.sqrt(np.abs(variances)), widest), widest)


def _region(own: _Lattice, within: list[list[tuple[list[float], int, int]]]) -> tuple[Floats, bool]:
    """The box, shape (4, 2), of all points within _DEPTH of the mode, and whether the lattice covers it."""
    region, complete = [], True
    for k, size in enumerate(own.sizes):
        axis = own.nodes[k, :size].tolist()
        step, growth = axis[1] - axis[0], _GROWTH * (axis[-1] - axis[0])
        low, high = math.inf, -math.inf
        for profile in within:
            below, first, last = profile[k]
            low = min(low, axis[first] - (growth if first == 0 else step))
            high = max(high, axis[last] + (growth if last == size - 1 else step))
            complete &= below[0] >= _ENDS or axis[0] <= LOW[k]
            complete &= below[-1] >= _ENDS or axis[-1] >= HIGH[k]
        region.append((max(low, LOW[k]), min(high, HIGH[k])))
    return np.array(region), complete


def _profile(surface: Floats, own: _Lattice, prior: SchoolPrior, height: Floats) -> Floats:
    """The highest log-posterior at each value of each logit, (4, _MOST)."""
    profile = np.empty((4, _MOST))
    _weigh(surface, own, prior, False, height, profile, np.empty(4), np.empty((4, 4)))
    return profile


def _posterior(surface: Floats, own: _Lattice, prior: SchoolPrior, height: Floats) -> Posterior:
    mean, covariance = np.empty(4), np.empty((4, 4))
    margin = _weigh(surface, own, prior, True, height, np.empty((4, _MOST)), mean, covariance)
    margins = tuple(margin[k, :n] / own.cells[k, :n] for k, n in enumerate(own.sizes))
    return Posterior(Moments(mean, covariance), margins)


def _weigh(
    surface: Floats,
    own: _Lattice,
    prior: SchoolPrior,
    masses: bool,
    height: Floats,
    profile: Floats,
    mean: Floats,
    covariance: Floats,
) -> Floats:
    from bkt_pipeline.model.kernels.lattice import weigh

    margin = np.empty((4, _MOST))
    powers = np.empty(height.shape[1])
    weigh(
        surface,
        own.nodes,
        own.cells,
        prior.mean,
        prior.precision,
        masses,
        height,
        powers,
        powers.view(np.int64),
        profile,
        margin,
        mean,
        covariance,
    )
    return margin
