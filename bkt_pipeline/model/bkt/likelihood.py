"""How probable answers are under given parameters, accurate for any length and any order of the sequences."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.params import BktParams

__all__ = ["exact_sum", "log_likelihood", "log_likelihood_of", "log_likelihoods"]

Floats = npt.NDArray[np.float64]

_SPLIT = 2.0**27 + 1.0


def log_likelihood(window: AttemptWindow, params: BktParams) -> float:
    """Natural log of the probability of all answers in the window.

    Each sequence is computed with both masses, P(known) and P(unknown), each with its own scale, so that neither
    underflows in a long sequence. The sum of the logs is rounded only once, so the order of students does not matter.

    Parameters
    ----------
    window : AttemptWindow
        The answers.
    params : BktParams
        The parameters; their `log_likelihood` is ignored.

    Returns
    -------
    float
        Nats, at most 0; ``-inf`` if an answer is impossible (slip or guess of 0).

    References
    ----------
    Corbett & Anderson (1994), DOI 10.1007/BF01099821.

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> window = simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=100, seed=1)
    >>> round(log_likelihood(window, BktParams(0.3, 0.1, 0.1, 0.2)), 3)
    -386.908
    """
    return log_likelihood_of(window, params, np.arange(window.n_students, dtype=np.int32))


def log_likelihood_of(
    window: AttemptWindow,
    params: BktParams,
    students: npt.NDArray[np.int32],
    counts: npt.NDArray[np.integer] | None = None,
) -> float:
    """The same for some students, shape (n,), or for sequences that occur several times, with their counts."""
    from bkt_pipeline.model.kernels.sequences import log_probabilities

    return exact_sum(log_probabilities(window.responses, window.offsets, students, *params.values), counts)


def log_likelihoods(
    window: AttemptWindow, points: Sequence[tuple[float, float, float, float]]
) -> list[float]:
    """The log-likelihood at each of several points, given as `BktParams.values`, equal to `log_likelihood`."""
    from bkt_pipeline.model.kernels.sequences import log_probabilities

    answers = DistinctSequences.of(window)
    return [
        exact_sum(
            log_probabilities(window.responses, window.offsets, answers.students, *values), answers.counts
        )
        for values in points
    ]


def exact_sum(values: Floats, counts: npt.NDArray[np.integer] | None = None) -> float:
    """Sum of ``counts * values``, rounded once, so it equals the sum of all repetitions in any order.

    Parameters
    ----------
    values : float64 array, shape (n,)
    counts : integer array, shape (n,), optional
        Below 2**26; by default, each value occurs once.

    Returns
    -------
    float
    """
    if not np.isfinite(values).all():
        return -math.inf
    if counts is None:
        return math.fsum(values.tolist()) + 0.0
    # Each half of a value has at most 26 bits, so its product with a count is exact. fsum rounds only its result.
    high = values * _SPLIT
    high = high - (high - values)
    return math.fsum(np.concatenate([high * counts, (values - high) * counts]).tolist()) + 0.0
