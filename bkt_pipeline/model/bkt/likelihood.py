"""How probable answers are under given parameters, accurate for any length and any order of the sequences."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.params import BktParams

__all__ = ["exact_log_likelihood", "log_likelihood", "log_likelihood_of", "log_likelihoods"]

Int32s = npt.NDArray[np.int32]


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
    students: Int32s,
    counts: Int32s | None = None,
) -> float:
    """The same for some students, shape (n,), or for sequences that occur several times, with their counts."""
    if counts is None:
        counts = np.ones(students.size, np.int32)
    return exact_log_likelihood(window.responses, window.offsets, students, counts, params.values)


def log_likelihoods(
    window: AttemptWindow, points: Sequence[tuple[float, float, float, float]]
) -> list[float]:
    """The log-likelihood at each of several points, given as `BktParams.values`, equal to `log_likelihood`."""
    answers = DistinctSequences.of(window)
    return [
        exact_log_likelihood(window.responses, window.offsets, answers.students, answers.counts, values)
        for values in points
    ]


def exact_log_likelihood(
    responses: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    students: Int32s,
    counts: Int32s,
    values: tuple[float, float, float, float],
) -> float:
    """The same from arrays: sequence students[i] occurs counts[i] times, below 2**26.

    The sum is rounded once, so it equals the sum over all repetitions in any order.
    """
    from bkt_pipeline.model.kernels.sequences import log_probabilities

    # fsum rounds only its result. Adding 0 turns -0.0 into 0.0.
    return math.fsum(log_probabilities(responses, offsets, students, counts, *values).tolist()) + 0.0
