"""How far a run is, for whoever watches it."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


class Progress:
    """Silent default; the command line substitutes one that reports."""

    def track(self, what: str, work: Iterable[T], total: int) -> Iterator[T]:
        """Pass `work` on, reporting each piece as it is done."""
        yield from work

    def say(self, what: str) -> None:
        """Report something that takes a while and happens rarely."""


def batches(keys: Sequence[str], size: int) -> list[Sequence[str]]:
    """The keys in order, in pieces of `size` at most."""
    return [keys[start : start + size] for start in range(0, len(keys), size)]


def gathered(work: Iterable[T], size: int) -> Iterator[list[T]]:
    """What `work` yields, in lists of `size` at most, as soon as each is full."""
    waiting = iter(work)
    while some := list(islice(waiting, size)):
        yield some
