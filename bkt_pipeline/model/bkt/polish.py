"""From the grid's winner to the continuous optimum near it."""

import numpy as np

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.grid import DEFAULT_GRID, Grid
from bkt_pipeline.model.bkt.likelihood import log_likelihood
from bkt_pipeline.model.params import BktParams

__all__ = ["polish"]

# How close to 0, and a probability to 1, the optimum may lie; the grid's own floor of 0.05 hides slow
# learning.
_LEAST = 1e-4


def polish(
    window: AttemptWindow,
    start: BktParams,
    *,
    grid: Grid = DEFAULT_GRID,
    answers: DistinctSequences | None = None,
) -> BktParams:
    """Climb from the grid's winner to the optimum between and beyond the grid's points.

    L-BFGS-B with the analytic gradient. Prior and transit stay within [1e-4, 1 - 1e-4]; slip and guess between
    1e-4 and the largest values that the grid allows.

    Parameters
    ----------
    window : AttemptWindow
        What `start` was fitted to.
    start : BktParams
        The grid's winner, with its log-likelihood.
    grid : Grid
        Whose bounds on slip and guess hold.
    answers : DistinctSequences, optional
        The window's sequences where they are at hand.

    Returns
    -------
    BktParams
        Never less probable than `start`; `start` itself where nothing better is found.

    References
    ----------
    Byrd, Lu, Nocedal & Zhu (1995), DOI 10.1137/0916069.

    Examples
    --------
    >>> from bkt_pipeline.model import calibrate
    >>> from bkt_pipeline.model.simulate import simulate
    >>> window = simulate(BktParams(0.33, 0.02, 0.08, 0.21), n_students=4000, seed=1)
    >>> start = calibrate(window).params
    >>> finer = polish(window, start)
    >>> start.p_transit, round(finer.p_transit, 3), finer.log_likelihood > start.log_likelihood
    (0.05, 0.021, True)
    """
    from scipy.optimize import minimize

    from bkt_pipeline.model.kernels.gradient import gradient

    answers = answers or DistinctSequences.of(window)
    students, counts = answers.students, answers.counts

    def descent(point: np.ndarray) -> tuple[float, np.ndarray]:
        # Per attempt, so that tolerances mean the same for skills of all sizes.
        value = -gradient(window.responses, window.offsets, students, counts, point) / window.n_attempts
        return float(value[0]), value[1:]

    tops = (1.0 - _LEAST, 1.0 - _LEAST, grid.max_slip, grid.max_guess)
    result = minimize(
        descent,
        np.array(start.values),
        jac=True,
        method="L-BFGS-B",
        bounds=[(_LEAST, top) for top in tops],
        options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-8},
    )
    prior, transit, slip, guess = (float(value) for value in result.x)
    if slip + guess >= 1.0:
        return start
    found = BktParams(prior, transit, slip, guess)
    value = log_likelihood(window, found)
    if start.log_likelihood is not None and value <= start.log_likelihood:
        return start
    return BktParams(*found.values, log_likelihood=value)
