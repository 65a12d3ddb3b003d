"""The command `nightly` in child processes, on separate platforms and Dagster storages."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from bkt_pipeline_tests.conftest import _create_source_tables
from bkt_pipeline_tests.helpers import children

AS_OF = "2026-01-01T07:00:00+00:00"


class Night:
    """The command `nightly` in a child process, on a platform and a Dagster instance."""

    def __init__(self, url: str, dagster: str, folder: Path) -> None:
        self.url = url
        self.environment = {
            "DATABASE_URL": url,
            "DAGSTER_POSTGRES_URL": dagster,
            "DAGSTER_HOME": str(folder),
        }
        self.output = folder / "output"

    def start(
        self, *arguments: str, work: Callable[..., None] = children.nightly, **environment: str
    ) -> children.ForkServerProcess:
        return children.start(
            work,
            "--as-of",
            AS_OF,
            *arguments,
            environment=self.environment | environment,
            output=self.output,
        )

    def ends(self, child: children.ForkServerProcess, seconds: float = 120) -> tuple[int | None, str]:
        """The exit code and the output; the exit code is None if the child hangs."""
        child.join(seconds)
        code = child.exitcode
        child.kill()
        child.join()
        return code, self.output.read_text()

    def undisturbed(self) -> float:
        """Run to the end; returns its duration in seconds."""
        started = time.monotonic()
        child = self.start()
        child.join()
        assert child.exitcode == 0, self.output.read_text()
        return time.monotonic() - started

    def killed_after(self, seconds: float) -> bool:
        """Run, and kill the process after `seconds`; returns whether it was still running."""
        child = self.start()
        child.join(seconds)
        child.kill()
        child.join()
        return child.exitcode == -signal.SIGKILL

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            with dg.DagsterInstance.get() as instance:
                yield instance


def copy_source(there: str, here: str) -> None:
    _create_source_tables(here, "uuid", "timestamptz")
    with psycopg.connect(there) as source, psycopg.connect(here) as target:
        for table in ("skills", "items", "attempts"):
            with (
                source.cursor().copy(f"COPY {table} TO STDOUT") as rows,
                target.cursor().copy(f"COPY {table} FROM STDIN") as copy,
            ):
                for row in rows:
                    copy.write(row)
