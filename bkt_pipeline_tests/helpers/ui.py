"""`bkt-pipeline ui` in a process of its own."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import pytest

from bkt_pipeline_tests.helpers.processes import COMMAND, end_group

TIMEOUT = 300  # seconds; a busy machine starts processes slowly


LAUNCH = """mutation ($run: ExecutionParams!) {
    launchRun(executionParams: $run) { ... on LaunchRunSuccess { run { runId } } }
}"""

RUNS = "query ($filter: RunsFilter) { runsOrError(filter: $filter) { ... on Runs { results { runId status } } } }"


@dataclass(frozen=True)
class UI:
    """A running UI."""

    process: "subprocess.Popen[bytes]"
    log: Path
    address: str  # as printed, with the secret
    temporary: Path  # where its processes keep sockets

    @property
    def origin(self) -> str:
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def port(self) -> int:
        return int(self.origin.rpartition(":")[2])

    @property
    def secret(self) -> str:
        return self.address.partition("token=")[2]

    @property
    def cookie(self) -> str:
        """The cookie that a browser gets at the printed address."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)) as connection:
            connection.request("GET", f"/?token={self.secret}")
            answer = connection.getresponse()
            assert answer.status == 303, answer.read()
            return str(answer.headers["Set-Cookie"]).partition(";")[0]

    def ask(self, query: str, **variables: Any) -> Any:
        """Send GraphQL as the page does; returns the data."""
        headers = {"Content-Type": "application/json", "Cookie": self.cookie, "Origin": self.origin}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)) as connection:
            connection.request(
                "POST", "/graphql", json.dumps({"query": query, "variables": variables}), headers
            )
            answer = json.load(connection.getresponse())
        assert "errors" not in answer, answer
        return answer["data"]

    def launch(self, job: str) -> str:
        """Start a run of the job; returns its id."""
        selector = {
            "repositoryLocationName": "bkt_pipeline",
            "repositoryName": "__repository__",
            "jobName": job,
        }
        answer = self.ask(LAUNCH, run={"selector": selector, "runConfigData": "{}", "mode": "default"})
        return str(answer["launchRun"]["run"]["runId"])

    def runs(self, job: str) -> dict[str, str]:
        """The status of each run of the job by its id."""
        answer = self.ask(RUNS, filter={"pipelineName": job})
        return {run["runId"]: run["status"] for run in answer["runsOrError"]["results"]}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running_ui(environment: Mapping[str, str], folder: Path, *options: str) -> Iterator[UI]:
    """Start it in the folder, wait until it answers, and end it."""
    log = folder / "ui.log"
    # A short path: sockets are made in it.
    with TemporaryDirectory(prefix="bkt-", ignore_cleanup_errors=True) as temporary, log.open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, "ui", "--port", str(free_port()), *options],
            env={**environment, "TMPDIR": temporary},
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            ui = UI(process, log, _printed_address(process, log), Path(temporary))
            assert ui.cookie
            yield ui
        finally:
            end_group(process)


def _printed_address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    end = time.monotonic() + TIMEOUT
    while process.poll() is None and time.monotonic() < end:
        if found := re.search(r"http\S+token=\S+", log.read_text()):
            return found[0]
        time.sleep(0.1)
    pytest.fail(f"the UI did not come up:\n{log.read_text()[-2000:]}")
