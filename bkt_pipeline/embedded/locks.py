"""File locks (flock), which the kernel always frees when a process dies."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

from bkt_pipeline.embedded.refusal import cannot_run

START_TIMEOUT = 120.0  # seconds
STOP_TIMEOUT = 30.0  # seconds


def unlock(lock: int) -> None:
    """Free the lock, even if a forked child shares the open file."""
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def try_lock(path: Path, kind: int) -> int | None:
    """The open lock, or None if another process holds it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:
        os.close(lock)
        raise
    return lock


def wait_for_lock(path: Path, kind: int) -> int:
    """Wait until the lock is free and take it; closing the last descriptor frees it again."""
    deadline = time.monotonic() + START_TIMEOUT + STOP_TIMEOUT
    while (lock := try_lock(path, kind)) is None:
        if time.monotonic() > deadline:
            raise cannot_run(f"Another process has kept {path} locked for {START_TIMEOUT + STOP_TIMEOUT} s.")
        time.sleep(0.02)
    return lock


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock exclusively within the block."""
    lock = wait_for_lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        unlock(lock)


def is_still_at(path: Path, lock: int) -> bool:
    """Whether `lock` is open on the file at `path`, which may have been deleted and recreated."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


def can_lock(path: Path, kind: int) -> bool:
    """Whether the lock is free now."""
    lock = try_lock(path, kind)
    if lock is None:
        return False
    unlock(lock)
    return True


def is_held(path: Path) -> bool:
    """Whether a process holds `path` exclusively."""
    return not can_lock(path, fcntl.LOCK_SH)
