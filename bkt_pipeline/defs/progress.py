"""Progress reports of a run, and the batches that it works in."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

S = TypeVar("S")
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


def one_ahead(work: Callable[[S], T], pieces: Iterable[S]) -> Iterator[T]:
    """Yield `work(piece)` for each piece in order; the next one is worked on while the caller handles the current one."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        current: Future[T] | None = None
        for piece in pieces:
            following = pool.submit(work, piece)
            if current is not None:
                yield current.result()
            current = following
        if current is not None:
            yield current.result()
