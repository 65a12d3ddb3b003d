"""The uncertainty of a calibration: posterior intervals under a prior, and profile intervals without a prior."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.bkt.grid import Grid
from bkt_pipeline.model.bkt.optimum import COARSE, logits
from bkt_pipeline.model.bkt.posterior import Lattice, Posterior
from bkt_pipeline.model.params import BktParams

__all__ = ["Estimate", "Uncertainty", "uncertainty"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Profile = tuple[Floats, Floats]  # logits of a parameter, and the best log-likelihood at each of them

# Half of the 95% point of chi-square with one degree of freedom: how far a profile interval goes below the optimum.
PROFILE_NATS = 1.92
_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the answers say about one parameter.

    Parameters
    ----------
    mean, sd : float
        Of the posterior under the fit's prior.
    low, high : float
        A 95% interval of that posterior which contains the pooled and the published value. It leaves out 2.5% on
        each side if possible, and is otherwise shifted as little as necessary. If the two values are further apart,
        it contains more than 95% of the posterior.
    profile_low, profile_high : float
        Between these values, the best choice of the other parameters is within 1.92 nats of the optimum. This uses
        the likelihood alone, without a prior. The interval contains the polished value.
    """

    mean: float
    sd: float
    low: float
    high: float
    profile_low: float
    profile_high: float


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """The uncertainty of one skill's calibration.

    Parameters
    ----------
    p_l0, p_transit, p_slip, p_guess : Estimate
        Each parameter on its own.
    gap : float
        Nats from the best point of the grid to the second best; 0 for a tie or a grid with one point.
    n_close : int
        Number of grid points within 1.92 nats of the best, including the best.
    """

    p_l0: Estimate
    p_transit: Estimate
    p_slip: Estimate
    p_guess: Estimate
    gap: float
    n_close: int


def uncertainty(
    posterior: Posterior,
    own: Lattice,
    fine: Floats,
    coarse: Floats,
    grid: Grid,
    surface: Floats | None,
    polished: BktParams | None,
    inside: tuple[BktParams, ...],
) -> Uncertainty:
    """Posterior and profile of every parameter.

    Parameters
    ----------
    posterior : Posterior
        Under the fit's prior.
    own : Lattice
        Its lattice.
    fine, coarse : float64 arrays
        Log-likelihood on it and on `optimum.COARSE`, in nats.
    grid : Grid
    surface : float64 array, shape ``grid.shape``, or None
        Log-likelihood at the grid's points, in nats; None without points or answers.
    polished : BktParams or None
        The likelihood's optimum; None without points or answers.
    inside : tuple of BktParams
        The values that the posterior intervals must contain.

    Returns
    -------
    Uncertainty

    Examples
    --------
    >>> from bkt_pipeline.model import calibrate
    >>> from bkt_pipeline.model.simulate import simulate
    >>> window = simulate(BktParams(0.33, 0.12, 0.08, 0.21), n_students=5000, seed=1)
    >>> sure = calibrate(window, estimator="pooled").uncertainty
    >>> round(sure.p_transit.low, 3), round(sure.p_transit.high, 3)
    (0.113, 0.126)
    """
    sources = [_lattice_profiles(own.axes, fine), _lattice_profiles(COARSE, coarse)]
    gap, n_close = 0.0, 0
    if surface is not None:
        sources.append(_grid_profiles(grid, surface))
        flat = surface.reshape(-1)
        at = int(flat.argmax())
        best = float(flat[at])
        gap = best - float(max(flat[:at].max(initial=-np.inf), flat[at + 1 :].max(initial=-np.inf)))
        gap = gap if flat.size > 1 else 0.0
        n_close = int(np.count_nonzero(flat >= best - PROFILE_NATS))
    posteriors = _posterior_intervals(own, posterior, np.array([params.values for params in inside]))
    profiles = _profile_intervals(sources, polished)
    prior, transit, slip, guess = (
        Estimate(*one, *other) for one, other in zip(posteriors, profiles, strict=True)
    )
    return Uncertainty(prior, transit, slip, guess, gap, n_close)


def _posterior_intervals(
    own: Lattice, posterior: Posterior, values: Floats
) -> list[tuple[float, float, float, float]]:
    """Mean, sd, low and high of each parameter.

    values : float64 array, shape (n, 4)
        What the intervals must contain.
    """
    from bkt_pipeline.model.kernels.intervals import PIECES, density_intervals

    weights, middles = np.zeros((2, 4, PIECES * (own.nodes.shape[1] - 1)))
    span, ends = np.array([values.min(axis=0), values.max(axis=0)]), np.empty((4, 2))
    least, most = logits(span)
    density_intervals(
        own.nodes,
        own.cells,
        posterior.margins,
        np.array(own.sizes),
        least,
        most,
        _SHARE,
        weights,
        middles,
        ends,
    )
    means = (weights * middles).sum(axis=1)
    sds = np.sqrt((weights * (middles - means[:, None]) ** 2).sum(axis=1))
    return [
        (mean, sd, min(low, smallest), max(high, largest))
        for mean, sd, (low, high), smallest, largest in zip(
            means.tolist(), sds.tolist(), ends.tolist(), *span.tolist(), strict=True
        )
    ]


def _lattice_profiles(axes: tuple[Floats, ...], surface: Floats) -> list[Profile]:
    """The profile of each parameter."""
    from bkt_pipeline.model.kernels.intervals import profiles

    best = np.empty((4, max(surface.shape)))
    profiles(surface, best)
    return [(axis, row[: axis.size]) for axis, row in zip(axes, best, strict=True)]


def _grid_profiles(grid: Grid, surface: Floats) -> list[Profile]:
    """The same for the grid's values."""
    table = surface.reshape(-1, surface.shape[2])
    prior_transit, pairs = table.max(axis=1).reshape(surface.shape[:2]), table.max(axis=0)
    axes, groups = _grid_axes(grid)
    best = [prior_transit.max(axis=1), prior_transit.max(axis=0)]
    best += [np.maximum.reduceat(pairs[order], starts) for order, starts in groups]
    return list(zip(axes, best, strict=True))


@lru_cache(maxsize=8)
def _grid_axes(grid: Grid) -> tuple[tuple[Floats, ...], tuple[tuple[Ints, Ints], ...]]:
    """The logits of the grid's values; and for slip and guess, how to sort its pairs and where each value begins."""
    axes, groups = [logits(grid.p_l0.values), logits(grid.p_transit.values)], []
    for column in grid.slip_guess.T:
        order = np.argsort(column, kind="stable")
        values, starts = np.unique(column[order], return_index=True)
        axes.append(logits(values))
        groups.append((order, starts))
    return tuple(axes), tuple(groups)


def _profile_intervals(sources: list[list[Profile]], polished: BktParams | None) -> list[list[float]]:
    """Of each parameter, the two points at which the highest of its profiles falls 1.92 nats below the optimum."""
    from bkt_pipeline.model.kernels.intervals import profile_intervals

    optimum, top = np.full(4, np.nan), -np.inf
    if polished is not None and polished.log_likelihood is not None:
        optimum, top = logits(polished.values), polished.log_likelihood
    parts = [source[k] for k in range(4) for source in sources]
    offsets = np.cumsum([0, *(axis.size for axis, _ in parts)])
    ends = np.empty((4, 2))
    profile_intervals(
        np.concatenate([axis for axis, _ in parts]),
        np.concatenate([heights for _, heights in parts]),
        offsets,
        optimum,
        top,
        PROFILE_NATS,
        ends,
    )
    found: list[list[float]] = ends.tolist()
    return found
