"""The exact search for the best point of the grid, for one skill."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.bounded import Corners
from bkt_pipeline.model.bkt.grid import DEFAULT_GRID, Grid
from bkt_pipeline.model.bkt.likelihood import exact_log_likelihood
from bkt_pipeline.model.observations import AttemptObservation, sequences_of
from bkt_pipeline.model.params import SAFE_DEFAULT, BktParams

__all__ = ["calibrate_skill", "search"]

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

# Two log-likelihoods are tied if they differ by at most this relative amount.
TIE = 1e-12
# Bound on the error of the surface, relative (measured: 1e-15), and absolute for sums near 0.
_SURFACE_ERROR = 1e-10


def search(
    responses: Bytes,
    offsets: Ints,
    answers: DistinctSequences,
    grid: Grid = DEFAULT_GRID,
    surface: Floats | None = None,
) -> tuple[BktParams, Floats | None]:
    """The grid point at which the answers are most probable, and the log-likelihood at all points.

    Every point is evaluated. The winner and all points that could tie with it are then evaluated again with exact
    sums. Among ties (1e-12 relative), the lexicographically smallest parameters win.

    Parameters
    ----------
    responses : uint8 array, shape (n_attempts,)
    offsets : int64 array, shape (n_students + 1,)
        As in `AttemptWindow`.
    answers : DistinctSequences
        The same sequences.
    grid : Grid
        The points to evaluate.
    surface : float64 array, shape ``grid.shape``, optional
        The log-likelihood at all points where it is already known, with a relative error of at most 1e-10.

    Returns
    -------
    params : BktParams
        With their log-likelihood in nats. If there are no valid points or no answers, `SAFE_DEFAULT`, without a
        log-likelihood.
    surface : float64 array, shape ``grid.shape``, or None
        Nats; None with the safe default.

    References
    ----------
    Corbett & Anderson (1994), DOI 10.1007/BF01099821.
    """
    if not grid.n_points or not answers.counts.size:
        return SAFE_DEFAULT, None
    if surface is None:
        surface = surfaces_of(answers, grid).sum(axis=0)
    lanes = np.arange(len(grid.lanes))
    return _winner(surface.reshape(-1, lanes.size), lanes, responses, offsets, answers, grid), surface


def surfaces_of(answers: DistinctSequences, grid: Grid) -> Floats:
    """The log-likelihood in nats of each side at all points of a grid that has any, shape (n_sides, *grid.shape)."""
    return answers.surfaces(np.array(grid.p_l0.values), grid.lanes).reshape(-1, *grid.shape)


def _in_reach(responses: Bytes, offsets: Ints, answers: DistinctSequences, grid: Grid) -> tuple[Floats, Ints]:
    """The surface without the lanes that are proven worse than another point, and the numbers of the lanes it has."""
    prior, lanes, corners = np.array(grid.p_l0.values), grid.lanes, Corners.of(grid)
    surfaces = answers.composed(prior, corners.least_answer)
    if 2 * len(corners.lanes) > len(lanes):
        return surfaces(prior, lanes)[0], np.arange(len(lanes))
    known = surfaces(corners.prior, corners.lanes)[0].max(axis=0)
    bounds = corners.bounds(known, offsets)
    left = np.flatnonzero(bounds >= _least_tied(float(known[corners.on_grid].max())))
    return surfaces(prior, lanes[left])[0], left


def _least_tied(best: float) -> float:
    """The least value on a surface that could tie with the best one."""
    return best - (TIE + _SURFACE_ERROR) * abs(best) - _SURFACE_ERROR


def _winner(
    surface: Floats,
    lanes: Ints,
    responses: Bytes,
    offsets: Ints,
    answers: DistinctSequences,
    grid: Grid,
) -> BktParams:
    """The best point of a surface, shape (n_prior, n_lanes), of some lanes of the grid."""
    students, counts = answers.students, answers.counts
    exact = {}
    for found in np.flatnonzero(surface >= _least_tied(float(surface.max()))).tolist():
        prior, lane = divmod(found, lanes.size)
        index = prior * len(grid.lanes) + int(lanes[lane])
        values = grid.point(index)
        exact[index] = values, exact_log_likelihood(responses, offsets, students, counts, values)
    best = max(found for _, found in exact.values())
    first = min(index for index, (_, found) in exact.items() if found >= best - TIE * abs(best))
    values, log_likelihood = exact[first]
    return BktParams(*values, log_likelihood=log_likelihood)


def calibrate_skill(attempts: Sequence[AttemptObservation], grid: Grid = DEFAULT_GRID) -> BktParams:
    """Calibrate one skill from a list of answers, in any order.

    The result is that of `search`, to the last digit, but only some points are evaluated: all others are proven worse
    than one of these (see `bounded`).

    Parameters
    ----------
    attempts : sequence of AttemptObservation
        Answers of one skill. Each student's answers are sorted by time; equal times keep the order of the list.
    grid : Grid
        The points to choose from.

    Returns
    -------
    BktParams
        With their log-likelihood in nats.

    Raises
    ------
    InvalidAttempts
        If the list is empty, mixes skills, holds something else than attempts, or ids of different types that are
        the same text. Attempts are numbered from 0, as in the list.

    Examples
    --------
    >>> answers = [(0, 0, 1, 1), (0, 1, 1), (1, 1, 1), (0, 0)]
    >>> attempts = [AttemptObservation(f"s{s}", "fractions-add", answer, 60.0 * i)
    ...             for s, sequence in enumerate(answers) for i, answer in enumerate(sequence)]
    >>> params = calibrate_skill(attempts)
    >>> params.values, round(params.log_likelihood, 3)
    ((0.25, 0.55, 0.05, 0.05), -5.317)
    """
    responses, offsets = sequences_of(attempts)
    for array in (responses, offsets):
        # Like a window's arrays, because numba would compile the kernels again for writable arrays.
        array.flags.writeable = False
    answers = DistinctSequences.of_sequences(responses, offsets)
    if not grid.n_points:
        return SAFE_DEFAULT
    return _winner(*_in_reach(responses, offsets, answers, grid), responses, offsets, answers, grid)
