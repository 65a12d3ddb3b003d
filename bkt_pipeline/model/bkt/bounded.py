"""Upper bounds on the log-likelihood between points where it is known, so that a search can skip what cannot win.

The probability of a sequence is a sum over the paths that the student may have taken through "known" and "unknown". A
path contributes a product: p_l0 or 1 - p_l0; for each answer one of slip, 1 - slip, guess and 1 - guess; and for each
"unknown" before another answer, p_transit or 1 - p_transit. So the log of the sum, as a function of the logs of these
eight factors, is a log-sum-exp of linear functions, whose coefficients count how often the path has each factor. Two
properties follow, for one sequence and for the sum over all:

1. It is convex (Boyd & Vandenberghe 2004, Convex Optimization, section 3.1.5): at a weighted mean of points it is at most
   the weighted mean of its values there.
2. It cannot fall if a log rises, because no count is negative. If the logs of slip, 1 - slip, guess and 1 - guess rise by
   at most d, it rises by at most d for each answer; with p_transit, for each answer that another one follows; with p_l0,
   for each student.

Now let a < v < b be values of one parameter. As the logarithm is concave, (log v, log(1 - v)) is above the line between
(log a, log(1 - a)) and (log b, log(1 - b)). From exactly one point of this line, a weighted mean of a and b, it is
reached by adding the same number to both coordinates: the gap of v. So at a point whose four parameters are all between
two such values, the log-likelihood is at most

    the weighted mean of its values at the 16 corners, each weight being the product of four
    + n_students * gap of p_l0 + n_transitions * gap of p_transit + n_answers * the larger gap of slip and guess.

A weighted mean over p_l0 is at most the largest of the values, so a lane (p_transit, p_slip, p_guess) is bounded for all
p_l0 by the largest values of its 8 corners and the largest gap of p_l0.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.bkt.grid import Grid

__all__ = ["Corners"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Distance of neighbouring corners in arcsin(sqrt(value)); the gaps between them are at most about half its square.
# With 0.15, the search of 1,000 answers takes about as long; with 0.3, up to a third longer: more lanes are left.
_WIDTH = 0.2
# Relative, and absolute for each answer: above the rounding errors of the log-likelihoods, the weights and the gaps.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Corners:
    """Some points of a grid and of its surroundings, from which all its lanes are bounded.

    Parameters
    ----------
    prior : float64 array, shape (n_prior,)
        p_l0 of the corners.
    lanes : float64 array, shape (n_corners, 3)
        p_transit, p_slip and p_guess of the corners. Slip and guess may add up to 1 or more: the bounds hold there too.
    on_grid : bool array, shape (n_corners,)
        Whether a lane is in the grid.
    least_answer : float
        The least value of slip, guess, 1 - slip and 1 - guess.

    Examples
    --------
    >>> from bkt_pipeline.model.bkt.grid import DEFAULT_GRID
    >>> corners = Corners.of(DEFAULT_GRID)
    >>> len(corners.lanes), len(DEFAULT_GRID.lanes)
    (112, 1881)
    """

    prior: Floats
    lanes: Floats
    on_grid: npt.NDArray[np.bool_]
    least_answer: float
    _shape: tuple[int, int, int]  # of the lanes
    # Of each value on an axis of the grid, the weights of the corners' values; all gaps are in nats.
    _transit: Floats
    _slip: Floats
    _guess: Floats
    _pairs: Ints  # the grid's pairs of slip and guess, as positions among all combinations
    _prior_gap: float
    _transit_gaps: Floats
    _pair_gaps: Floats

    @staticmethod
    @lru_cache(maxsize=2)
    def of(grid: Grid) -> "Corners":
        """The corners of a grid that has points."""
        priors, transits = np.array(grid.p_l0.values), np.array(grid.p_transit.values)
        slips, slip_at = np.unique(grid.slip_guess[:, 0], return_inverse=True)
        guesses, guess_at = np.unique(grid.slip_guess[:, 1], return_inverse=True)
        prior, _, prior_gaps = _corners(priors)
        transit, transit_weights, transit_gaps = _corners(transits)
        slip, slip_weights, slip_gaps = _corners(slips)
        guess, guess_weights, guess_gaps = _corners(guesses)
        pairs = slip_at * guesses.size + guess_at
        on_grid = np.isin(slip[:, None] * guesses.size + guess, pairs).reshape(-1)
        lanes = np.stack(np.meshgrid(transits[transit], slips[slip], guesses[guess], indexing="ij"), axis=-1)
        return Corners(
            priors[prior],
            lanes.reshape(-1, 3),
            np.tile(on_grid, transit.size),
            float(min(slips[0], guesses[0], 1.0 - slips[-1], 1.0 - guesses[-1])),
            (transit.size, slip.size, guess.size),
            # Log-likelihoods are not above 0, so lower weights raise the bounds.
            (1.0 - _ROUNDING) * transit_weights,
            slip_weights,
            np.ascontiguousarray(guess_weights.T),
            pairs,
            float(prior_gaps.max()),
            transit_gaps[:, None],
            np.maximum(slip_gaps[slip_at], guess_gaps[guess_at]) + _ROUNDING,
        )

    def bounds(self, known: Floats, offsets: Ints) -> Floats:
        """The most that the log-likelihood can be in each lane of the grid, at any p_l0.

        Parameters
        ----------
        known : float64 array, shape (n_corners,)
            In each lane of the corners, the largest log-likelihood of all values in `prior`, in nats.
        offsets : int64 array, shape (n_students + 1,)
            As in `AttemptWindow`.

        Returns
        -------
        float64 array, shape (n_lanes,)
            Nats, in the order of ``grid.lanes``.
        """
        n_students, n_answers = offsets.size - 1, int(offsets[-1])
        pairs = (self._slip @ known.reshape(self._shape) @ self._guess).reshape(self._shape[0], -1)
        bounds: Floats = self._transit @ pairs[:, self._pairs]
        bounds += (n_answers - n_students) * self._transit_gaps
        bounds += n_students * self._prior_gap + n_answers * self._pair_gaps
        return bounds.reshape(-1)


def _corners(values: Floats) -> tuple[Ints, Floats, Floats]:
    """Which values of an axis are corners, their weights for each value, and the gap of each value."""
    angles = np.arcsin(np.sqrt(values))
    parts = math.ceil((angles[-1] - angles[0]) / _WIDTH)
    places = np.interp(np.linspace(angles[0], angles[-1], parts + 1), angles, np.arange(values.size))
    corners = np.unique(np.rint(places).astype(np.int64))
    # The log of 0 is not finite, so a value of 0 or 1 is a corner whose neighbour is one too.
    for end, neighbour in ((0, 1), (values.size - 1, values.size - 2)):
        if values[end] in (0.0, 1.0) and values.size > 1:
            corners = np.union1d(corners, neighbour)
    weights, gaps = np.zeros((values.size, corners.size)), np.zeros(values.size)
    weights[corners, np.arange(corners.size)] = 1.0
    between = np.setdiff1d(np.arange(values.size), corners)
    above = np.searchsorted(corners, between)
    low = _logs(values[corners[above - 1]])
    whole, part = _logs(values[corners[above]]) - low, _logs(values[between]) - low
    weight = (part[0] - part[1]) / (whole[0] - whole[1])
    weights[between, above - 1] = 1.0 - weight
    weights[between, above] = weight
    gaps[between] = part[0] - weight * whole[0]
    return corners, weights, gaps


def _logs(values: Floats) -> Floats:
    logs: Floats = np.log([values, 1.0 - values])
    return logs
