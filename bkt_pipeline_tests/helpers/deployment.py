"""Dagster's daemon and webserver in separate processes, with one platform's database and one instance."""

import datetime as dt
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg

from bkt_pipeline_tests.conftest import PROJECT
from bkt_pipeline_tests.helpers.processes import end_group

BIN = Path(sys.executable).parent
WORKSPACE = PROJECT / "workspace.yaml"
TIMEOUT = 400  # seconds; a busy machine starts processes slowly
DAY = dt.timedelta(days=1)


def last_tick(now: dt.datetime) -> dt.datetime:
    """The schedule's latest tick."""
    tick = now.replace(hour=7, minute=0, second=0, microsecond=0)
    return tick if tick <= now else tick - DAY


def let_a_near_tick_pass() -> None:
    """If 07:00 UTC is near, wait until it has passed; otherwise the daemon would start another night during the test."""
    now = dt.datetime.now(dt.UTC)
    to_come = last_tick(now) + DAY - now
    if to_come < dt.timedelta(minutes=10):
        time.sleep(to_come.total_seconds() + 1)


class Deployment:
    """Dagster's processes for one platform's database and one instance."""

    def __init__(self, instance: dg.DagsterInstance, folder: Path, environment: dict[str, str]) -> None:
        self.instance = instance
        self.folder = folder
        self.environment = {**os.environ, **environment}
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        with (self.folder / "processes.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self.running.append(process)
        return process

    def start_daemon(self) -> subprocess.Popen[bytes]:
        return self.start(BIN / "dagster-daemon", "run", "-w", WORKSPACE)

    def turn_schedule_back(self, to: dt.datetime) -> None:
        """Make the daemon believe that it last evaluated the schedule at `to`, so that it finds the ticks since."""

        def states() -> list[Any]:
            known = self.instance.all_instigator_state()
            return [state for state in known if state.instigator_name == "nightly_bkt"]

        self.wait_for("the daemon to know the schedule", lambda: bool(states()))
        for daemon in list(self.running):
            self.stop(daemon)
        (state,) = states()
        earlier = {"start_timestamp": to.timestamp(), "last_iteration_timestamp": to.timestamp()}
        self.instance.update_instigator_state(state.with_data(state.instigator_data._replace(**earlier)))

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        self.running.remove(process)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(120)
        end_group(process)

    def stop_all(self) -> None:
        for process in self.running:
            process.terminate()
        for process in self.running:
            end_group(process, 30)

    def wait_for(self, what: str, happened: Callable[[], bool], timeout: float = TIMEOUT) -> None:
        deadline = time.monotonic() + timeout
        while not happened():
            ended = [process.args for process in self.running if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                runs = [(run.job_name, run.status.value, run.tags) for run in self.instance.get_runs()]
                log = (self.folder / "processes.log").read_text()[-6000:]
                raise AssertionError(f"{what}: not within {timeout:.0f} s; ended: {ended}\n{runs}\n{log}")
            time.sleep(0.5)

    def runs(self, job: str) -> list[dg.DagsterRun]:
        return list(self.instance.get_runs(dg.RunsFilter(job_name=job)))
