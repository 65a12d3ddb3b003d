"""The log-likelihood of one skill at many parameter values at once."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.attempts import AttemptWindow

__all__ = ["DistinctSequences"]

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]

# Products of probabilities are kept above this between two looks at their exponents, single states above the
# next.
_LEAST_PRODUCT = 1e-270
_LEAST_STATE = 1e-90


@dataclass(frozen=True, slots=True, eq=False)
class DistinctSequences:
    """A window's sequences, put together so that equal ones and equal endings are worked on once.

    Parameters
    ----------
    child : int32 array, shape (n_nodes, 2)
    count, student : int32 array, shape (n_nodes,)
        The tree that `kernels.trie.plant` makes.

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> from bkt_pipeline.model.params import BktParams
    >>> answers = DistinctSequences.of(simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=50, seed=1, lengths=3))
    >>> answers.counts.tolist()
    [17, 7, 8, 3, 6, 4, 2, 3]
    >>> answers.surface(np.array([[0.3], [0.4]]), np.array([[0.1, 0.1, 0.2]])).round(3)
    array([[-96.184],
           [-94.623]])
    """

    child: Int32s
    count: Int32s
    student: Int32s

    @classmethod
    def of(cls, window: AttemptWindow) -> "DistinctSequences":
        """Those of a window."""
        from bkt_pipeline.model.kernels.trie import plant

        return cls(*plant(window.responses, window.offsets))

    @property
    def counts(self) -> Int32s:
        """How often each distinct sequence occurs, shape (n_distinct,)."""
        return self.count[self.count > 0]

    @property
    def students(self) -> Int32s:
        """Place in the window of a student with each distinct sequence, shape (n_distinct,)."""
        return self.student[self.count > 0]

    def surface(self, prior: Floats, lanes: Floats) -> Floats:
        """Log-likelihood for several values of p_l0 on each of many lanes of the other parameters.

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
        # A term is a sum of two masses, the larger one in [1, 2), the second one weighed with the odds.
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
