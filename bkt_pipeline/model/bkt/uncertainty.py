"""How sure a calibration is: the posterior over the parameters, looked at as closely as it is narrow.

The prior is flat over the grid, each point of which stands for its cell. With few students the posterior is
wider than a step of the grid; with many it lies between the points, and a sum over the grid would call it a
single value. So the likelihood is evaluated again on a lattice of some thousand points, laid over the region
where the posterior lives, and laid anew, closer or wider, until the posterior fills it. At that distance the
surface's own curvature decides, whatever its shape: nothing is assumed to be normal, and bounds and bent
ridges are kept.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.grid import Grid

__all__ = ["Estimate", "Uncertainty", "uncertainty"]

Floats = npt.NDArray[np.float64]

# Half of the 95% point of chi-square with one degree of freedom: what a profile interval gives away.
PROFILE_NATS = 1.92
# Points of the lattice on each axis: a sum over a smooth peak is exact to a percent from about one point per
# standard deviation on. 10 x 10 pairs of slip and guess just fit one of the kernel's tiles.
_POINTS = (12, 12, 10, 10)
# Where the best of all others is further below the optimum than this, nothing is looked for: 3.5 standard
# deviations.
_DEPTH = 6.0
# The lattice is close enough when the region takes up this share of every axis.
_FILLED = 0.6
# By this share of an axis the lattice grows at once where the region goes on beyond it.
_GROWTH = 0.5
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the answers say about one parameter.

    Parameters
    ----------
    mean, sd : float
        Of the posterior.
    low, high : float
        The posterior's 95% interval, 2.5% of it beyond either end.
    profile_low, profile_high : float
        Between these values, the best choice of the other parameters is within 1.92 nats of the optimum.
    """

    mean: float
    sd: float
    low: float
    high: float
    profile_low: float
    profile_high: float


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How sure the calibration of one skill is.

    Parameters
    ----------
    p_l0, p_transit, p_slip, p_guess : Estimate
        Each parameter on its own.
    gap : float
        Nats from the best point of the grid to the second best; 0 for a tie, and for a grid of one point.
    n_close : int
        Points of the grid within 1.92 nats of the best, itself included.
    """

    p_l0: Estimate
    p_transit: Estimate
    p_slip: Estimate
    p_guess: Estimate
    gap: float
    n_close: int


def uncertainty(answers: DistinctSequences, grid: Grid, surface: Floats) -> Uncertainty:
    """Posterior and profile of every parameter under a flat prior over the grid's cells.

    Parameters
    ----------
    answers : DistinctSequences
        The skill's sequences.
    grid : Grid
        With at least one valid point.
    surface : float64 array, shape ``grid.shape``
        Log-likelihood at its points, in nats.

    Returns
    -------
    Uncertainty

    Examples
    --------
    >>> from bkt_pipeline.model import DEFAULT_GRID, BktParams, calibrate
    >>> from bkt_pipeline.model.simulate import simulate
    >>> sure = calibrate(simulate(BktParams(0.33, 0.12, 0.08, 0.21), n_students=5000, seed=1)).uncertainty
    >>> round(sure.p_transit.low, 3), round(sure.p_transit.high, 3)
    (0.113, 0.126)
    """
    domain = _domain(grid)
    values, profiles = _grid_profiles(grid, surface)
    box = _region(values, profiles, domain, np.zeros(4))
    for _ in range(_ROUNDS):
        values = [np.linspace(low, high, n) for (low, high), n in zip(box, _POINTS, strict=True)]
        lattice = _lattice(answers, values)
        profiles = _margins(np.maximum, lattice)
        region = _region(values, profiles, domain, _GROWTH * np.ptp(box, axis=1))
        inside = (region[:, 0] >= box[:, 0]) & (region[:, 1] <= box[:, 1])
        if np.all(inside & (np.ptp(region, axis=1) >= _FILLED * np.ptp(box, axis=1))):
            break
        box = region
    best = float(surface.max())
    flat = surface.reshape(-1)
    others = (flat[: flat.argmax()], flat[flat.argmax() + 1 :])
    second = max((float(part.max()) for part in others if part.size), default=best)
    prior, transit, slip, guess = _estimates(values, lattice, profiles)
    return Uncertainty(
        prior, transit, slip, guess, best - second, int((surface >= best - PROFILE_NATS).sum())
    )


def _domain(grid: Grid) -> Floats:
    """Where the prior lives, shape (4, 2): the cells of the grid's points, inside the parameters' bounds."""
    slip, guess = grid.slip_guess.T
    ends = [
        (grid.p_l0.values[0], grid.p_l0.values[-1], grid.p_l0.step, 1.0),
        (grid.p_transit.values[0], grid.p_transit.values[-1], grid.p_transit.step, 1.0),
        (slip.min(), slip.max(), grid.p_slip.step, grid.max_slip),
        (guess.min(), guess.max(), grid.p_guess.step, grid.max_guess),
    ]
    # A cell at the very edge ends half way to what would make an answer impossible.
    return np.array(
        [
            (max(low - step / 2, low / 2), min(high + step / 2, top if top < 1 else (1 + high) / 2))
            for low, high, step, top in ends
        ]
    )


def _grid_profiles(grid: Grid, surface: Floats) -> tuple[list[Floats], list[Floats]]:
    """Each parameter's values on the grid, and the best log-likelihood at each of them."""
    pairs = surface.max(axis=(0, 1))
    values = [np.array(grid.p_l0.values), np.array(grid.p_transit.values)]
    profiles = [surface.max(axis=(1, 2)), surface.max(axis=(0, 2))]
    for column in grid.slip_guess.T:
        values.append(np.unique(column))
        profiles.append(np.array([pairs[column == value].max() for value in values[-1]]))
    return values, profiles


def _region(values: list[Floats], profiles: list[Floats], domain: Floats, growth: Floats) -> Floats:
    """The box, shape (4, 2), of what matters: a step beyond the last values that do, or more at the end."""
    region = np.empty((4, 2))
    best = max(float(profile.max()) for profile in profiles)
    for axis, (value, profile) in enumerate(zip(values, profiles, strict=True)):
        matters = np.flatnonzero(profile >= best - _DEPTH)
        first, last = matters[0], matters[-1]
        step = value[1] - value[0] if value.size > 1 else 1.0
        region[axis, 0] = value[first] - max(step, growth[axis] if first == 0 else 0.0)
        region[axis, 1] = value[last] + max(step, growth[axis] if last == value.size - 1 else 0.0)
    return np.clip(region, domain[:, :1], domain[:, 1:])


def _lattice(answers: DistinctSequences, values: list[Floats]) -> Floats:
    """Log-likelihood at every combination of values, shape (n_prior, n_transit, n_slip, n_guess)."""
    prior, *others = values
    lanes = np.stack(np.meshgrid(*others, indexing="ij"), axis=-1).reshape(-1, 3)
    return answers.surface(prior[:, None], lanes).reshape([value.size for value in values])


def _margins(how: np.ufunc, lattice: Floats) -> list[Floats]:
    """Maximum or sum over all axes but one, for each axis."""
    prior_transit, slip_guess = how.reduce(lattice, axis=(2, 3)), how.reduce(lattice, axis=(0, 1))
    return [how.reduce(table, axis=axis) for table in (prior_transit, slip_guess) for axis in (1, 0)]


def _estimates(values: list[Floats], lattice: Floats, profiles: list[Floats]) -> list[Estimate]:
    mass = np.exp(lattice - lattice.max())
    for axis in range(4):
        # The first and the last value stand for half a cell, as the lattice ends there.
        along = np.moveaxis(mass, axis, 0)
        along[0] *= 0.5
        along[-1] *= 0.5
    mass /= mass.sum()
    margins = _margins(np.add, mass)
    return [_estimate(*parts) for parts in zip(values, margins, profiles, strict=True)]


def _estimate(value: Floats, mass: Floats, profile: Floats) -> Estimate:
    mean = float(mass @ value)
    cells = np.concatenate([value[:1], (value[1:] + value[:-1]) / 2, value[-1:]])
    low, high = np.interp([0.025, 0.975], np.concatenate([[0.0], np.cumsum(mass)]), cells)
    close = profile.max() - PROFILE_NATS
    within = np.flatnonzero(profile >= close)
    return Estimate(
        mean=mean,
        sd=float(np.sqrt(mass @ (value - mean) ** 2)),
        low=float(low),
        high=float(high),
        profile_low=_crossing(value, profile, close, within[0], -1),
        profile_high=_crossing(value, profile, close, within[-1], 1),
    )


def _crossing(value: Floats, profile: Floats, close: float, at: int, step: int) -> float:
    """Where the profile falls below `close` between the value number `at` and the next one outwards."""
    beyond = at + step
    if not 0 <= beyond < value.size:
        return float(value[at])
    share = (profile[at] - close) / (profile[at] - profile[beyond])
    return float(value[at] + share * (value[beyond] - value[at]))
