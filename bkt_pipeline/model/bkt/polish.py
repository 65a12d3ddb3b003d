"""The continuous optimum of the likelihood, between and beyond the grid's points."""

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.grid import DEFAULT_GRID, Grid
from bkt_pipeline.model.bkt.likelihood import exact_log_likelihood
from bkt_pipeline.model.bkt.optimum import COARSE, lattice, logits, optimum, values_at
from bkt_pipeline.model.params import BktParams

__all__ = ["polish"]


def polish(
    window: AttemptWindow,
    start: BktParams,
    *,
    grid: Grid = DEFAULT_GRID,
    answers: DistinctSequences | None = None,
    coarse: npt.NDArray[np.float64] | None = None,
) -> BktParams:
    """Climb to the optimum, from the grid's winner and from the best points of a coarse lattice in logit space.

    This is a quasi-Newton climb (BFGS) on the logits with the analytic gradient. Prior and transit stay within
    [1e-4, 1 - 1e-4], slip and guess between 1e-4 and the largest values that the grid allows. There are several
    starts because the likelihood of a few skills has a second optimum.

    Parameters
    ----------
    window : AttemptWindow
        The answers that `start` was fitted to.
    start : BktParams
        The grid's winner, with its log-likelihood.
    grid : Grid
        Its bounds on slip and guess apply.
    answers : DistinctSequences, optional
        The window's sequences, if they are already available; or those of the students that `start` was fitted to.
    coarse : float64 array, optional
        Log-likelihood on `optimum.COARSE`, if it is already available.

    Returns
    -------
    BktParams
        Never less probable than `start` or any point of the lattice within the bounds. If nothing better is found,
        `start` itself.

    References
    ----------
    Nocedal & Wright (2006), Numerical Optimization, DOI 10.1007/978-0-387-40065-5, chapter 6.

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
    answers = answers or DistinctSequences.of(window)
    if coarse is None:
        coarse = lattice(answers, COARSE)
    high, first = logits([(1.0, 1.0, grid.max_slip, grid.max_guess), start.values])
    point = optimum(window, answers, coarse, high=high, extra=(first,))
    found = values_at(point, grid.max_slip, grid.max_guess)
    sequences = (window.responses, window.offsets, answers.students, answers.counts)
    value = exact_log_likelihood(*sequences, found)
    if start.log_likelihood is not None and value <= start.log_likelihood:
        return start
    return BktParams(*found, log_likelihood=value)
