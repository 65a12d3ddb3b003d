"""The command line in a process of its own, as a person or a cron job runs it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bkt_pipeline.embedded import server as embedded
from bkt_pipeline_tests.helpers import children

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(server_home: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A machine of its own: a BKT_PIPELINE_HOME with nothing in it."""
    folder = server_home / f"cli-{request.node.name[:40]}"
    yield folder
    embedded.release(folder)


@pytest.fixture
def run(home: Path) -> Run:
    def run(
        *arguments: str, cwd: Path | None = None, stdin: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment = {**keep, "BKT_PIPELINE_HOME": str(home), **environment}
        return children.run(*arguments, environment=environment, folder=cwd, stdin=stdin or "")

    return run
