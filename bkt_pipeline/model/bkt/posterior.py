"""The posterior of the parameters under a prior, summed over a lattice in logit space.

The coarse lattice that the climbs start from shows where the posterior is concentrated. A second lattice covers that
region, and is narrowed or widened until the posterior fills it. The posterior is not assumed to be normal, so bounds and
curved ridges are represented.
"""

from dataclasses import dataclass

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
class _Sums:
    """The results of `kernels.lattice.weigh` for one lattice."""

    profile: list[Floats]
    margins: Axes
    moments: tuple[Floats, Floats]


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
    for _ in range(_ROUNDS):
        axes = tuple(np.linspace(low, high, n) for (low, high), n in zip(box, _POINTS, strict=True))
        surface = lattice(answers, axes)
        sums = [_sums(surface, axes, prior) for prior in priors]
        region, complete = _region(axes, sums)
        if complete and np.all(np.ptp(region, axis=1) >= _FILLED * np.ptp(box, axis=1)):
            break
        box = region
    return axes, surface, tuple(Posterior(Moments(*each.moments), each.margins) for each in sums)


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
    for prior in priors:
        profiles = _sums(coarse, COARSE, prior).profile
        for k, (axis, profile) in enumerate(zip(COARSE, profiles, strict=True)):
            matters = axis[profile >= profile.max() - _DEPTH]
            low[k], high[k] = min(low[k], matters[0]), max(high[k], matters[-1])
    return np.clip(np.stack([low, high], axis=1), LOW[:, None], HIGH[:, None])


def _deviations(curvature: Floats, prior: SchoolPrior) -> Floats:
    """Standard deviations of the normal distribution with this curvature, limited by the prior's, shape (4,)."""
    widest = _WIDEST * np.sqrt(np.diag(prior.covariance))
    try:
        variances = np.diag(np.linalg.inv(curvature))
    except np.linalg.LinAlgError:
        return widest
    return np.where(variances > 0.0, np.minimum(np.sqrt(np.abs(variances)), widest), widest)


def _region(axes: Axes, sums: list[_Sums]) -> tuple[Floats, bool]:
    """The box, shape (4, 2), of all points within _DEPTH of the mode, and whether the lattice covers it."""
    region = np.tile([np.inf, -np.inf], (4, 1))
    complete = True
    for each in sums:
        for k, (axis, profile) in enumerate(zip(axes, each.profile, strict=True)):
            below = profile.max() - profile
            matters = np.flatnonzero(below <= _DEPTH)
            step, growth = axis[1] - axis[0], _GROWTH * (axis[-1] - axis[0])
            region[k, 0] = min(region[k, 0], axis[matters[0]] - (growth if matters[0] == 0 else step))
            region[k, 1] = max(
                region[k, 1], axis[matters[-1]] + (growth if matters[-1] == axis.size - 1 else step)
            )
            complete &= bool(
                (below[0] >= _ENDS or axis[0] <= LOW[k]) and (below[-1] >= _ENDS or axis[-1] >= HIGH[k])
            )
    return np.clip(region, LOW[:, None], HIGH[:, None]), complete


def _sums(surface: Floats, axes: Axes, prior: SchoolPrior) -> _Sums:
    from bkt_pipeline.model.kernels.lattice import weigh

    nodes, cells = np.zeros((4, _MOST)), np.zeros((4, _MOST))
    for k, axis in enumerate(axes):
        nodes[k, : axis.size] = axis
        widths = np.full(axis.size, axis[1] - axis[0])
        widths[:3] *= _END
        widths[-3:] *= _END[::-1]
        cells[k, : axis.size] = widths
    profile, margin = np.empty((4, _MOST)), np.empty((4, _MOST))
    mean, covariance = np.empty(4), np.empty((4, 4))
    weigh(
        surface,
        nodes,
        cells,
        prior.mean,
        prior.precision,
        np.empty(surface.shape),
        profile,
        margin,
        mean,
        covariance,
    )
    sizes = [axis.size for axis in axes]
    return _Sums(
        [profile[k, :n] for k, n in enumerate(sizes)],
        tuple(margin[k, :n] / cells[k, :n] for k, n in enumerate(sizes)),
        (mean, covariance),
    )
