"""How far a run is, for whoever watches it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


class Progress:
    """Tells nobody; the command line puts one in its place that does."""

    def track(self, what: str, work: Iterable[T], total: int) -> Iterator[T]:
        """Pass `work` on, telling of each piece that is done."""
        yield from work

    def say(self, what: str) -> None:
        """Something that takes a while and happens rarely."""


def batches(keys: Sequence[str], size: int) -> list[Sequence[str]]:
    """The keys in order, cut into pieces of so many at most."""
    return [keys[start : start + size] for start in range(0, len(keys), size)]
