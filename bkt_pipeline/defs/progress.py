"""Progress reports of a run, and the batches that it works in."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


class Progress:
    """Reports nothing; the command line substitutes a class that does."""

    def track(self, what: str, work: Iterable[T], total: int) -> Iterator[T]:
        """Pass `work` on, reporting each piece as it is done."""
        yield from work

    def say(self, what: str) -> None:
        """Report a rare step that takes a while."""


def batches(keys: Sequence[str], size: int) -> list[Sequence[str]]:
    """The keys in order, in batches of at most `size`."""
    return [keys[start : start + size] for start in range(0, len(keys), size)]


def gathered(work: Iterable[T], size: int) -> Iterator[list[T]]:
    """Collect what `work` yields into lists of at most `size`, and yield each as soon as it is full."""
    waiting = iter(work)
    while some := list(islice(waiting, size)):
        yield some
