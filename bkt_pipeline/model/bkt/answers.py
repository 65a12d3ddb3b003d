"""The log-likelihood of one skill at many parameter values at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.attempts import AttemptWindow

__all__ = ["DistinctSequences"]

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class DistinctSequences:
    """A window's sequences, merged so that equal sequences and equal endings are processed only once.

    Parameters
    ----------
    child : int32 array, shape (n_nodes, 2)
    count : int32 array, shape (n_nodes, n_sides)
        The tree that `kernels.trie.plant` builds; a side is a group of students.
    counts : int32 array, shape (n_distinct,)
        How often each distinct sequence occurs, in an order that depends only on the sequences.
    students : int32 array, shape (n_distinct,)
        Position in the window of a student with this sequence.
    ends : int32 array, shape (n_distinct,)
        The nodes at which these sequences are complete.

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> from bkt_pipeline.model.params import BktParams
    >>> answers = DistinctSequences.of(simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=50, seed=1, lengths=3))
    >>> answers.counts.tolist()
    [8, 4, 3, 2, 7, 3, 6, 17]
    >>> answers.surface(np.array([0.3, 0.4]), np.array([[0.1, 0.1, 0.2]])).round(3)
    array([[-96.184],
           [-94.623]])
    """

    child: Int32s
    count: Int32s
    counts: Int32s
    students: Int32s
    ends: Int32s

    @classmethod
    def of(cls, window: AttemptWindow, second: npt.NDArray[np.bool_] | None = None) -> "DistinctSequences":
        """Build from a window; `second`, shape (n_students,), are the students of a second side, if there is one."""
        return cls.of_sequences(window.responses, window.offsets, second)

    @classmethod
    def of_sequences(
        cls,
        responses: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        second: npt.NDArray[np.bool_] | None = None,
    ) -> "DistinctSequences":
        """Build from the arrays of a window."""
        from bkt_pipeline.model.kernels.trie import plant

        sides = np.zeros(offsets.size - 1, np.uint8) if second is None else second.view(np.uint8)
        child, count, ends, students = plant(responses, offsets, sides, 1 if second is None else 2)
        return cls(child, count, count[ends].sum(axis=1, dtype=np.int32), students, ends)

    def together(self) -> "DistinctSequences":
        """The sequences of all sides as one."""
        count = self.count.sum(axis=1, keepdims=True, dtype=np.int32)
        return DistinctSequences(self.child, count, self.counts, self.students, self.ends)

    def side(self, number: int) -> "DistinctSequences":
        """The sequences of one side alone."""
        count = np.ascontiguousarray(self.count[:, number : number + 1])
        counts = count[self.ends, 0]
        there = counts > 0
        return DistinctSequences(self.child, count, counts[there], self.students[there], self.ends[there])

    def surface(self, prior: Floats, lanes: Floats) -> Floats:
        """Log-likelihood for several values of p_l0 combined with many sets of the other parameters (lanes).

        Parameters
        ----------
        prior : float64 array, shape (n_prior,)
            p_l0, strictly between 0 and 1.
        lanes : float64 array, shape (n_lanes, 3)
            p_transit in [0, 1]; p_slip and p_guess strictly between 0 and 1.

        Returns
        -------
        float64 array, shape (n_prior, n_lanes)
            Nats.
        """
        by_side = self.surfaces(prior, lanes)
        total: Floats = by_side.sum(axis=0) if len(by_side) > 1 else by_side[0]
        return total

    def surfaces(self, prior: Floats, lanes: Floats) -> Floats:
        """The same for each side, shape (n_sides, n_prior, n_lanes)."""
        # Column by column, because numpy reduces short rows slowly.
        slip, guess = lanes[:, 1], lanes[:, 2]
        least = float(min(slip.min(), guess.min(), 1.0 - slip.max(), 1.0 - guess.max()))
        return self.composed(prior, least)(prior, lanes)

    def composed(self, prior: Floats, least: float) -> Callable[[Floats, Floats], Floats]:
        """`surfaces` as a function to be called several times, with only one program for the answers.

        Its p_l0 must not be outside those of `prior`. No p_slip, p_guess, 1 - p_slip or 1 - p_guess may be below `least`.
        """
        from bkt_pipeline.model.kernels.surface import surface
        from bkt_pipeline.model.kernels.trie import compose

        odds = prior / (1.0 - prior)
        counts = self.count[self.ends]
        program, slots, digits = compose(self.child, self.count, counts, least, odds)
        n_students = counts.sum(axis=0)[:, None, None]

        def surfaces(prior: Floats, lanes: Floats) -> Floats:
            odds = prior / (1.0 - prior)
            values = surface(program, slots, digits, counts.shape[1], odds, np.ascontiguousarray(lanes))
            values += n_students * np.log1p(-prior)[:, None]
            return values

        return surfaces
