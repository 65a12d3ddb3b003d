"""Ctrl-C and SIGTERM end a command, whatever Python happens to be doing."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN_AFTER_SECONDS = 0.05


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM as on Ctrl-C, and raise it again if it was lost.

    Python discards an exception that is raised while it frees an object, and a signal may arrive just then.
    """
    handler, hook = signal.signal(signal.SIGTERM, _interrupt), sys.unraisablehook
    repeats: list[threading.Timer] = []

    def repeat(lost: "sys.UnraisableHookArgs") -> None:
        if lost.exc_type is KeyboardInterrupt:
            repeats.append(threading.Timer(_AGAIN_AFTER_SECONDS, os.kill, (os.getpid(), signal.SIGTERM)))
            repeats[-1].start()
        else:
            hook(lost)

    sys.unraisablehook = repeat
    try:
        yield
    finally:
        for one in repeats:
            one.cancel()
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
