"""The log-likelihood of one skill at many parameter values at once."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.attempts import AttemptWindow

__all__ = ["DistinctSequences"]

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]

# Lower bounds between two checks of the exponents: for products of probabilities, and for single states.
_LEAST_PRODUCT = 1e-270
_LEAST_STATE = 1e-90
# Ordering the sequences needs no check of exponents.
_FAR = 1 << 30


@dataclass(frozen=True, slots=True, eq=False)
class DistinctSequences:
    """A window's sequences, merged so that equal sequences and equal endings are processed only once.

    Parameters
    ----------
    child : int32 array, shape (n_nodes, 2)
    count : int32 array, shape (n_nodes,)
        The tree that `kernels.trie.plant` builds.
    counts : int32 array, shape (n_distinct,)
        How often each distinct sequence occurs, in an order that depends only on the sequences.
    students : int32 array, shape (n_distinct,)
        Position in the window of a student with this sequence.

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> from bkt_pipeline.model.params import BktParams
    >>> answers = DistinctSequences.of(simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=50, seed=1, lengths=3))
    >>> answers.counts.tolist()
    [8, 4, 3, 2, 7, 3, 6, 17]
    >>> answers.surface(np.array([[0.3], [0.4]]), np.array([[0.1, 0.1, 0.2]])).round(3)
    array([[-96.184],
           [-94.623]])
    """

    child: Int32s
    count: Int32s
    counts: Int32s
    students: Int32s

    @classmethod
    def of(cls, window: AttemptWindow) -> "DistinctSequences":
        """Build from a window."""
        return cls.of_sequences(window.responses, window.offsets)

    @classmethod
    def of_sequences(
        cls, responses: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
    ) -> "DistinctSequences":
        """Build from the arrays of a window."""
        from bkt_pipeline.model.kernels.surface import EMIT
        from bkt_pipeline.model.kernels.trie import compose, plant

        child, count, student = plant(responses, offsets)
        program, _ = compose(child, count, _FAR)
        ends = program[program[:, 0] == EMIT, 3]
        return cls(child, count, count[ends], student[ends])

    def surface(self, prior: Floats, lanes: Floats) -> Floats:
        """Log-likelihood for several values of p_l0 combined with many sets of the other parameters (lanes).

        Parameters
        ----------
        prior : float64 array, shape (n_prior, n_lanes) or (n_prior, 1)
            p_l0, strictly between 0 and 1.
        lanes : float64 array, shape (n_lanes, 3)
            p_transit in [0, 1]; p_slip and p_guess strictly between 0 and 1.

        Returns
        -------
        float64 array, shape (n_prior, n_lanes)
            Nats.
        """
        from bkt_pipeline.model.kernels.surface import GROUP, STEP, surface
        from bkt_pipeline.model.kernels.trie import compose

        emissions = lanes[:, 1:]
        interval = int(math.log(_LEAST_STATE) / math.log(min(emissions.min(), 1.0 - emissions.max()))) - STEP
        odds = prior / (1.0 - prior)
        # A term is a sum of two masses; the larger one is in [1, 2), and the second one is weighted with the odds.
        widest = GROUP * max(-math.log(min(odds.min(), 1.0)), math.log(2.0 * (1.0 + odds.max())))
        program, slots = compose(self.child, self.count, interval)
        counts = self.counts
        digits = np.arange(int(counts.max()).bit_length())
        terms = ((counts[:, None] >> digits) & 1).sum(axis=0)
        values = surface(
            program,
            slots,
            -terms % GROUP,
            int(-math.log(_LEAST_PRODUCT) / widest),
            np.ascontiguousarray(np.broadcast_to(odds, (len(prior), len(lanes)))),
            np.ascontiguousarray(lanes),
        )
        shared: Floats = values + int(counts.sum()) * np.log1p(-prior)
        return shared
