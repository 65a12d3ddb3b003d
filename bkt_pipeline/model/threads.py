"""Threads for work on many skills at once."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

__all__ = ["cores", "thread_pool"]

# How long one thread keeps Python's lock while another waits for it, in seconds. A thread needs the lock between two
# kernels, which run for about a millisecond. With Python's 5 ms, the threads would mostly wait for a busy caller.
TURN = 0.0005


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def thread_pool(threads: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """Threads for kernels, by default as many as there are cores; at the end, what has not begun is cancelled.

    The caller may work on something else in the meantime.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    pool = ThreadPoolExecutor(threads or cores(), thread_name_prefix="fit")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        sys.setswitchinterval(before)
