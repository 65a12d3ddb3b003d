"""A reference implementation of the model: slow, simple, and independent of the package's kernels.

It carries both masses as logs, one student and one attempt at a time, for all points of a grid at once.
"""

import itertools
import math
from collections import Counter

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STEPS = [round(0.05 * i, 2) for i in range(1, 20)]


def default_points() -> Floats:
    """(p_l0, p_transit, p_slip, p_guess) of every valid point of the contract, in lexicographic order."""
    points = [
        point
        for point in itertools.product(STEPS, STEPS, STEPS, STEPS)
        if point[2] <= 0.5 and point[3] <= 0.5 and round(point[2] + point[3], 2) < 1
    ]
    return np.array(points)


def log_likelihoods(sequences: list[list[int]], points: Floats) -> Floats:
    """Sum of the logs of every response's probability at every point; equal sequences are computed once."""
    prior, transit, slip, guess = points.T
    with np.errstate(divide="ignore"):
        total = np.zeros(len(points))
        if_known, if_unknown = (np.log(slip), np.log(1 - slip)), (np.log(1 - guess), np.log(guess))
        learning, not_learning = np.log(transit), np.log1p(-transit)
        for sequence, count in Counter(map(tuple, sequences)).items():
            known, unknown = np.log(prior), np.log1p(-prior)
            for answer in sequence:
                known = known + if_known[answer]
                unknown = unknown + if_unknown[answer]
                # Each response's probability given the earlier ones; dividing by it keeps the two masses normalised.
                right = np.logaddexp(known, unknown)
                total += count * right
                known, unknown = known - right, unknown - right
                known = np.logaddexp(known, learning + unknown)
                unknown = not_learning + unknown
    return total


def winner(values: Floats, points: Floats | None = None) -> tuple[tuple[float, ...], float]:
    """The contract's winner: highest log-likelihood, ties (1e-12 relative) to the lexicographically smallest."""
    points = default_points() if points is None else points
    best = values.max()
    first = int(np.flatnonzero(values >= best - 1e-12 * abs(best))[0])
    return tuple(points[first].tolist()), float(values[first])


def log_likelihood(sequences: list[list[int]], params: tuple[float, float, float, float]) -> float:
    """One point in plain Python, with P(known) and P(unknown) as logs; shares no code with the package."""
    prior, transit, slip, guess = params
    terms = []
    for sequence in sequences:
        known, unknown = _log(prior), _log(1 - prior)
        for answer in sequence:
            known += _log(1 - slip if answer else slip)
            unknown += _log(guess if answer else 1 - guess)
            learned = unknown + _log(transit)
            unknown += _log(1 - transit)
            known = _log_add(known, learned)
        terms.append(_log_add(known, unknown))
    return math.fsum(terms)


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def _log_add(x: float, y: float) -> float:
    high, low = max(x, y), min(x, y)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
