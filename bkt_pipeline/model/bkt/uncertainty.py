"""The uncertainty of a calibration: posterior intervals under a prior, and profile intervals without a prior."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.bkt.grid import Grid
from bkt_pipeline.model.bkt.optimum import COARSE, logits
from bkt_pipeline.model.bkt.posterior import Axes, Posterior
from bkt_pipeline.model.params import BktParams

__all__ = ["Estimate", "Uncertainty", "uncertainty"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Half of the 95% point of chi-square with one degree of freedom: how far a profile interval goes below the optimum.
PROFILE_NATS = 1.92
_SHARE = 0.95
# Each cell of the lattice is divided into this many pieces to interpolate the density.
_PIECES = 16
# A log-density further below the highest counts as this.
_NOTHING = -60.0


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
    axes: Axes,
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
        Under the fit's prior, on the lattice `axes`.
    axes : tuple of four float64 arrays
        Logits of that lattice.
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
    profiles = [_lattice_profiles(axes, fine), _lattice_profiles(COARSE, coarse)]
    gap, n_close = 0.0, 0
    if surface is not None:
        profiles.append(_grid_profiles(grid, surface))
        flat = surface.reshape(-1)
        at = int(flat.argmax())
        best = float(flat[at])
        gap = best - float(max(flat[:at].max(initial=-np.inf), flat[at + 1 :].max(initial=-np.inf)))
        gap = gap if flat.size > 1 else 0.0
        n_close = int(np.count_nonzero(flat >= best - PROFILE_NATS))
    estimates = []
    posteriors = _posterior_intervals(axes, posterior.margins, np.array([params.values for params in inside]))
    for k in range(4):
        optimum = None
        if polished is not None and polished.log_likelihood is not None:
            optimum = float(logits(polished.values[k])), polished.log_likelihood
        estimates.append(
            Estimate(*posteriors[k], *_profile_interval([part[k] for part in profiles], optimum))
        )
    prior, transit, slip, guess = estimates
    return Uncertainty(prior, transit, slip, guess, gap, n_close)


def _posterior_intervals(
    axes: Axes, margins: Axes, values: Floats
) -> list[tuple[float, float, float, float]]:
    """Mean, sd, low and high of each parameter. Its logit has the density `margin` at the points of its axis.

    values : float64 array, shape (n, 4)
        What the intervals must contain.
    """
    # All parameters at once. Shorter axes are continued with the same step, where the density is 0.
    sizes = np.array([axis.size for axis in axes])
    heights = np.zeros((4, sizes.max()))
    for k, margin in enumerate(margins):
        heights[k, : margin.size] = np.log(np.maximum(margin / margin.max(), np.exp(_NOTHING)))
    begin = np.array([axis[0] for axis in axes])
    width = np.array([axis[-1] for axis in axes]) - begin
    # Between two points, the log of a density is nearly linear, and the error is about the same in every cell.
    share = np.arange(_PIECES) / _PIECES
    between = heights[:, :-1, None] + np.diff(heights, axis=1)[:, :, None] * share
    density = np.exp(np.concatenate([between.reshape(4, -1), heights[:, -1:]], axis=1))
    number = np.arange(density.shape[1])
    pieces = _PIECES * (sizes - 1)[:, None]
    masses = np.where(number[1:] <= pieces, (density[:, 1:] + density[:, :-1]) / 2.0, 0.0)
    dense = number * (width[:, None] / pieces) + begin[:, None]
    total = np.cumsum(masses, axis=1)
    shares = np.zeros(density.shape)
    shares[:, 1:] = total / total[:, -1:]
    probability = 1.0 / (1.0 + np.exp(-dense))
    middles = (probability[:, 1:] + probability[:, :-1]) / 2.0
    weights = masses / total[:, -1:]
    means = (weights * middles).sum(axis=1)
    sds = np.sqrt((weights * (middles - means[:, None]) ** 2).sum(axis=1))
    least, most = values.min(axis=0), values.max(axis=0)
    found = []
    for k, (mean, sd) in enumerate(zip(means.tolist(), sds.tolist(), strict=True)):
        below_least, below_most = np.interp(logits([least[k], most[k]]), dense[k], shares[k])
        # The share below the lower end: 2.5%, or whatever is needed to contain both values.
        left_out = min(max((1.0 - _SHARE) / 2.0, below_most - _SHARE), below_least)
        last = pieces[k, 0] + 1
        low, high = np.interp(
            [left_out, max(left_out + _SHARE, below_most)], shares[k, :last], probability[k, :last]
        )
        found.append((mean, sd, min(float(low), float(least[k])), max(float(high), float(most[k]))))
    return found


def _lattice_profiles(axes: Axes, surface: Floats) -> list[tuple[Floats, Floats]]:
    """For each parameter, the logits and the best log-likelihood at each of them."""
    shape = surface.shape
    table = surface.reshape(shape[0] * shape[1], -1)
    prior_transit, slip_guess = table.max(axis=1).reshape(shape[:2]), table.max(axis=0).reshape(shape[2:])
    best = [part.max(axis=axis) for part in (prior_transit, slip_guess) for axis in (1, 0)]
    return list(zip(axes, best, strict=True))


def _grid_profiles(grid: Grid, surface: Floats) -> list[tuple[Floats, Floats]]:
    """The same for the grid's values."""
    table = surface.reshape(-1, surface.shape[2])
    prior_transit, pairs = table.max(axis=1).reshape(surface.shape[:2]), table.max(axis=0)
    axes, groups = _grid_axes(grid)
    best = [prior_transit.max(axis=1), prior_transit.max(axis=0)]
    best += [np.maximum.reduceat(pairs[order], starts) for order, starts in groups]
    return list(zip(axes, best, strict=True))


@lru_cache(maxsize=8)
def _grid_axes(grid: Grid) -> tuple[Axes, tuple[tuple[Ints, Ints], ...]]:
    """The logits of the grid's values; and for slip and guess, how to sort its pairs and where each value begins."""
    axes, groups = [logits(grid.p_l0.values), logits(grid.p_transit.values)], []
    for column in grid.slip_guess.T:
        order = np.argsort(column, kind="stable")
        values, starts = np.unique(column[order], return_index=True)
        axes.append(logits(values))
        groups.append((order, starts))
    return tuple(axes), tuple(groups)


def _profile_interval(
    profiles: list[tuple[Floats, Floats]], optimum: tuple[float, float] | None
) -> tuple[float, float]:
    """The two points at which the highest of several profiles falls 1.92 nats below the optimum.

    `optimum` is the likelihood's, its logit and log-likelihood, if there is one.
    """
    parts = [axis for axis, _ in profiles]
    at = np.sort(np.concatenate([*parts, [optimum[0]]] if optimum else parts))
    best = np.full(at.size, -np.inf)
    for axis, profile in profiles:
        np.maximum(best, np.interp(at, axis, profile, left=-np.inf, right=-np.inf), out=best)
    if optimum:
        best[at == optimum[0]] = np.maximum(best[at == optimum[0]], optimum[1])
    close = best.max() - PROFILE_NATS
    within = np.flatnonzero(best >= close)
    ends = [_crossing(at, best, close, within[0], -1), _crossing(at, best, close, within[-1], 1)]
    low, high = 1.0 / (1.0 + np.exp(-np.array(ends)))
    return float(low), float(high)


def _crossing(value: Floats, profile: Floats, close: float, at: int, step: int) -> float:
    """Where the profile falls below `close`, between the value with index `at` and the next one outwards."""
    beyond = at + step
    if not 0 <= beyond < value.size:
        return float(value[at])
    share = (profile[at] - close) / (profile[at] - profile[beyond])
    return float(value[at] + share * (value[beyond] - value[at]))
