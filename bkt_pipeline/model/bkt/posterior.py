"""The posterior of the parameters under a prior, summed over a lattice in logit space.

The coarse lattice that the climbs start from shows where the posterior is concentrated. A second lattice covers that
region, and is narrowed or widened until the posterior fills it. The posterior is not assumed to be normal, so bounds and
curved ridges are represented.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.optimum import COARSE, COARSE_NODES, HIGH, LOW, bends, lattice
from bkt_pipeline.model.bkt.prior import Moments, SchoolPrior

__all__ = ["Lattice", "Posterior", "posteriors"]

Floats = npt.NDArray[np.float64]
Box = list[tuple[float, float]]  # the lowest and the highest value of each logit

# Points of the lattice on each axis. With one point per standard deviation or more, the sum over a smooth peak is exact
# to about a percent.
_POINTS = (16, 12, 10, 10)
# Points that are more nats below the mode than this are ignored: 3.5 standard deviations.
_DEPTH = 6.0
# The lattice is wide enough if its ends are this many nats below the mode, and narrow enough if the region fills this
# share of every axis.
_ENDS = 4.5
_FILLED = 0.6
# If the region continues beyond the lattice, the lattice grows by this share of the axis.
_GROWTH = 0.4
_LOW, _HIGH = LOW.tolist(), HIGH.tolist()
_ROUNDS = 6
# Half the width of the first lattice, in standard deviations from the curvature at the mode. A standard deviation counts
# as at most this many of the prior's.
_SPREAD = 4.0
_WIDEST = 1.2
# Weights of an axis's nodes. At its ends, where the posterior does not vanish, they are exact to the third order
# (Gregory's rule).
_END = np.array([3 / 8, 7 / 6, 23 / 24])
_LAST = np.array(_POINTS) - 1
_NUMBERS = np.arange(max(_POINTS))
_WEIGHTS = (_LAST[:, None] >= _NUMBERS).astype(np.float64)
for _row, _last in zip(_WEIGHTS, _LAST, strict=True):
    _row[:3] = _END
    _row[_last - 2 : _last + 1] = _END[::-1]


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """The axes of a lattice.

    Parameters
    ----------
    sizes : tuple of four int
    nodes, cells : float64 arrays, shape (4, most)
        The logits of each axis, and the width that each of them represents; beyond an axis, they mean nothing.
    """

    sizes: tuple[int, ...]
    nodes: Floats
    cells: Floats

    @classmethod
    def over(cls, box: Box) -> "Lattice":
        """The lattice of a posterior that is in this box."""
        low, high = np.array(box).T
        nodes = _NUMBERS * ((high - low) / _LAST)[:, None] + low[:, None]
        nodes[range(4), _LAST] = high
        return cls(_POINTS, nodes, _WEIGHTS * (nodes[:, 1] - nodes[:, 0])[:, None])

    @property
    def axes(self) -> tuple[Floats, ...]:
        """The logits of each axis."""
        return tuple(row[:size] for row, size in zip(self.nodes, self.sizes, strict=True))


_COARSE = Lattice(tuple(axis.size for axis in COARSE), COARSE_NODES, np.zeros(COARSE_NODES.shape))


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """A posterior of the logits, summed over a lattice.

    Parameters
    ----------
    mean : float64 array, shape (4,)
    covariance : float64 array, shape (4, 4)
    margins : float64 array, shape (4, most)
        The share of its mass at each of the lattice's nodes.
    reach : list of four lists of four floats
        Of each axis the first and the last node that matter, and how many nats below the mode its two ends are.
    """

    mean: Floats
    covariance: Floats
    margins: Floats
    reach: list[list[float]]

    @property
    def moments(self) -> Moments:
        """The mean and the covariance."""
        return Moments(self.mean, self.covariance)


def posteriors(
    window: AttemptWindow,
    answers: DistinctSequences,
    coarse: Floats,
    mode: Floats,
    priors: tuple[SchoolPrior, ...],
) -> tuple[Lattice, Floats, list[Posterior]]:
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
    own : Lattice
    surface : float64 array, shape (n_prior, n_transit, n_slip, n_guess)
        Log-likelihood on it, in nats.
    posteriors : list of Posterior
        One for each prior.
    """
    box = _first_box(window, answers, coarse, mode, priors)
    for _ in range(_ROUNDS):
        own = Lattice.over(box)
        surface = lattice(answers, own.axes)
        found = [_posterior(surface, own, prior) for prior in priors]
        region, complete = _region(own, found)
        if complete and all(
            inside[1] - inside[0] >= _FILLED * (whole[1] - whole[0])
            for inside, whole in zip(region, box, strict=True)
        ):
            break
        box = region
    return own, surface, found


def _first_box(
    window: AttemptWindow,
    answers: DistinctSequences,
    coarse: Floats,
    mode: Floats,
    priors: tuple[SchoolPrior, ...],
) -> Box:
    """The region of the posterior, from its curvature at the mode and from the coarse lattice."""
    deviations = _deviations(bends(window, answers, mode, priors[0]), priors[0])
    box = [
        (at - _SPREAD * deviation, at + _SPREAD * deviation)
        for at, deviation in zip(mode.tolist(), deviations, strict=True)
    ]
    for prior in priors:
        reach = _posterior(coarse, _COARSE, prior, masses=False).reach
        box = [
            (min(low, first), max(high, last))
            for (low, high), (first, last, *_) in zip(box, reach, strict=True)
        ]
    return _inside(box)


def _inside(box: Box) -> Box:
    return [
        (max(low, least), min(high, most)) for (low, high), least, most in zip(box, _LOW, _HIGH, strict=True)
    ]


def _deviations(curvature: Floats, prior: SchoolPrior) -> list[float]:
    """Standard deviations of the normal distribution with this curvature, limited by the prior's."""
    widest = [_WIDEST * math.sqrt(variance) for variance in prior.covariance.diagonal().tolist()]
    try:
        variances = np.linalg.inv(curvature).diagonal().tolist()
    except np.linalg.LinAlgError:
        return widest
    return [
        min(math.sqrt(variance), most) if variance > 0.0 else most
        for variance, most in zip(variances, widest, strict=True)
    ]


def _region(own: Lattice, found: list[Posterior]) -> tuple[Box, bool]:
    """The box of all points within _DEPTH of the mode, and whether the lattice covers it."""
    region, complete = [], True
    for k, axis in enumerate(own.axes):
        begin, second, end = float(axis[0]), float(axis[1]), float(axis[-1])
        step, growth = second - begin, _GROWTH * (end - begin)
        low, high = math.inf, -math.inf
        for posterior in found:
            first, last, below_begin, below_end = posterior.reach[k]
            low = min(low, first - (growth if first == begin else step))
            high = max(high, last + (growth if last == end else step))
            complete &= below_begin >= _ENDS or begin <= _LOW[k]
            complete &= below_end >= _ENDS or end >= _HIGH[k]
        region.append((low, high))
    return _inside(region), complete


def _posterior(surface: Floats, own: Lattice, prior: SchoolPrior, *, masses: bool = True) -> Posterior:
    """The posterior on a lattice with this log-likelihood; without `masses` only its reach."""
    from bkt_pipeline.model.kernels.lattice import weigh

    n0, n1, n2, n3 = surface.shape
    height, powers = np.empty((n0 * n1, n2 * n3)), np.empty(n2 * n3)
    profile, margins = np.empty(own.nodes.shape), np.empty(own.nodes.shape)
    mean, covariance, reach = np.empty(4), np.empty((4, 4)), np.empty((4, 4))
    weigh(
        surface,
        own.nodes,
        own.cells,
        prior.mean,
        prior.precision,
        _DEPTH,
        masses,
        height,
        powers,
        powers.view(np.int64),
        profile,
        reach,
        margins,
        mean,
        covariance,
    )
    return Posterior(mean, covariance, margins, reach.tolist())
