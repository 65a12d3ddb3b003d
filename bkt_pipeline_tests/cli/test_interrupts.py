"""A signal ends a command even if Python was freeing an object when it arrived."""

import signal
import time
import weakref
from collections.abc import Callable

import pytest

from bkt_pipeline.cli.interrupts import interruptible


class Freed:
    pass


def raise_interrupt(_: object) -> None:
    raise KeyboardInterrupt


def lose_an_interrupt() -> None:
    freed = Freed()
    watch = weakref.ref(freed, raise_interrupt)
    del freed
    assert watch() is None


@pytest.mark.parametrize(
    "interrupt",
    [lose_an_interrupt, lambda: signal.raise_signal(signal.SIGTERM)],
    ids=["discarded", "SIGTERM"],
)
def test_an_interrupt_ends_the_work(interrupt: Callable[[], None]) -> None:
    def work() -> None:
        with interruptible():
            interrupt()
            time.sleep(30)
        raise AssertionError("not interrupted")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert signal.getsignal(signal.SIGTERM) is before
