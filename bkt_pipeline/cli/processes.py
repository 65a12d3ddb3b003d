"""Starts, watches and stops the service processes of `bkt-pipeline ui`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bkt_pipeline.cli.service import STOP_SECONDS


class Service:
    """A service process in a separate session, with its child processes."""

    def __init__(self, name: str, orders: Mapping[str, Any], pass_fds: Sequence[int]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bkt_pipeline.cli.service"],
            stdin=subprocess.PIPE,
            pass_fds=pass_fds,
            # Ctrl-C in the terminal must reach only this process, which stops the services in order.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._orders = self._process.stdin
        self._orders.write(json.dumps(orders).encode() + b"\n")
        self._orders.flush()

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def ask_to_stop(self) -> None:
        with suppress(BrokenPipeError):
            self._orders.close()

    def stop(self) -> None:
        """Wait until all its processes have ended; kill those that are left after STOP_SECONDS."""
        end = time.monotonic() + STOP_SECONDS
        while self._lives() and time.monotonic() < end:
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _lives(self) -> bool:
        if not self.has_ended():
            return True
        # The process group keeps its id as long as any of its processes lives.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 0)
            return True
        return False


class Services:
    """Services that are started one after another and stopped together."""

    def __init__(self) -> None:
        self._started: list[Service] = []

    def start(self, name: str, orders: Mapping[str, Any], pass_fds: Sequence[int] = ()) -> None:
        self._started.append(Service(name, orders, pass_fds))

    def wait_for(self, path: Path) -> None:
        """Return when a service has created the file, or when one has ended."""
        while not path.exists() and self._first_ended() is None:
            time.sleep(0.05)

    def wait(self) -> str:
        """The name of the first service that ends."""
        while (ended := self._first_ended()) is None:
            time.sleep(0.2)
        return ended

    def stop(self) -> None:
        for service in self._started:
            service.ask_to_stop()
        for service in self._started:
            service.stop()

    def _first_ended(self) -> str | None:
        return next((service.name for service in self._started if service.has_ended()), None)


@contextmanager
def running() -> Iterator[Services]:
    """Services that are stopped at the end of the block, and stop by themselves if this process is killed."""
    services = Services()
    try:
        yield services
    finally:
        services.stop()
