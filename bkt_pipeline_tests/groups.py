"""Ending the processes that a test has started, with all that they have started themselves."""

import os
import signal
import subprocess


def end_group(process: "subprocess.Popen[bytes]", seconds: float = 60) -> None:
    """End a process that was started in a session of its own, and its children.

    Where whoever started us has children ignore an interrupt, Dagster waits for ever for its own to end.
    """
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
