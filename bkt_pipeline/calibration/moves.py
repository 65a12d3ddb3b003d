"""How the parameters of two nights differ, skill by skill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Move:
    """A skill whose parameters differ: its four parameters before and after."""

    skill_id: str
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def size(self) -> float:
        """The largest absolute change of a parameter."""
        return max(abs(now - then) for then, now in zip(self.before, self.after, strict=True))


def moves(before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]]) -> list[Move]:
    """The skills of both whose parameters differ, the largest change first.

    Examples
    --------
    >>> [move.skill_id for move in moves({"a": [0.1], "b": [0.1]}, {"a": [0.1], "b": [0.3], "c": [0.5]})]
    ['b']
    """
    both = [Move(key, tuple(before[key]), tuple(after[key])) for key in before if key in after]
    return sorted((move for move in both if move.size), key=lambda move: (-move.size, move.skill_id))
