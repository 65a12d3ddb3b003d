"""The uncertainty of a calibration: posterior intervals under a prior, and profile intervals without a prior."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.bkt.grid import Grid
from bkt_pipeline.model.bkt.optimum import COARSE, logits
from bkt_pipeline.model.bkt.posterior import Axes, Posterior
from bkt_pipeline.model.params import BktParams

__all__ = ["Estimate", "Uncertainty", "uncertainty"]

Floats = npt.NDArray[np.float64]

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
        best = float(flat.max())
        others = np.delete(flat, int(flat.argmax()))
        gap = best - float(others.max()) if others.size else 0.0
        n_close = int((flat >= best - PROFILE_NATS).sum())
    estimates = []
    for k in range(4):
        points = [part[k] for part in profiles]
        if polished is not None and polished.log_likelihood is not None:
            points.append((logits([polished.values[k]]), np.array([polished.log_likelihood])))
        estimates.append(
            Estimate(
                *_posterior_interval(axes[k], posterior.margins[k], [params.values[k] for params in inside]),
                *_profile_interval(points),
            )
        )
    prior, transit, slip, guess = estimates
    return Uncertainty(prior, transit, slip, guess, gap, n_close)


def _posterior_interval(
    axis: Floats, margin: Floats, values: list[float]
) -> tuple[float, float, float, float]:
    """Mean, sd, low and high of a parameter whose logit has the density `margin` at the points of `axis`."""
    # Between two points, the log of a density is nearly linear, and the error is about the same in every cell.
    dense = np.linspace(axis[0], axis[-1], (axis.size - 1) * _PIECES + 1)
    heights = np.log(np.maximum(margin / margin.max(), np.exp(_NOTHING)))
    density = np.exp(np.interp(dense, axis, heights))
    masses = (density[1:] + density[:-1]) / 2.0
    total = np.cumsum(masses)
    shares = np.concatenate([[0.0], total / total[-1]])
    probability = 1.0 / (1.0 + np.exp(-dense))
    middles = (probability[1:] + probability[:-1]) / 2.0
    weights = masses / total[-1]
    mean = float((weights * middles).sum())
    sd = float(np.sqrt((weights * (middles - mean) ** 2).sum()))
    least, most = min(values), max(values)
    below_least, below_most = np.interp(logits([least, most]), dense, shares)
    # The share below the lower end: 2.5%, or whatever is needed to contain both values.
    left_out = min(max((1.0 - _SHARE) / 2.0, below_most - _SHARE), below_least)
    low, high = np.interp([left_out, max(left_out + _SHARE, below_most)], shares, probability)
    return mean, sd, min(float(low), least), max(float(high), most)


def _lattice_profiles(axes: Axes, surface: Floats) -> list[tuple[Floats, Floats]]:
    """For each parameter, the logits and the best log-likelihood at each of them."""
    prior_transit, slip_guess = surface.max(axis=(2, 3)), surface.max(axis=(0, 1))
    best = [table.max(axis=axis) for table in (prior_transit, slip_guess) for axis in (1, 0)]
    return list(zip(axes, best, strict=True))


def _grid_profiles(grid: Grid, surface: Floats) -> list[tuple[Floats, Floats]]:
    """The same for the grid's values."""
    prior_transit, pairs = surface.max(axis=2), surface.max(axis=(0, 1))
    profiles = [
        (logits(grid.p_l0.values), prior_transit.max(axis=1)),
        (logits(grid.p_transit.values), prior_transit.max(axis=0)),
    ]
    for column in grid.slip_guess.T:
        values, place = np.unique(column, return_inverse=True)
        best = np.full(values.size, -np.inf)
        np.maximum.at(best, place, pairs)
        profiles.append((logits(values), best))
    return profiles


def _profile_interval(profiles: list[tuple[Floats, Floats]]) -> tuple[float, float]:
    """The two points at which the highest of several profiles falls 1.92 nats below the optimum."""
    at = np.unique(np.concatenate([axis for axis, _ in profiles]))
    best = np.full(at.size, -np.inf)
    for axis, profile in profiles:
        best = np.maximum(best, np.interp(at, axis, profile, left=-np.inf, right=-np.inf))
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
