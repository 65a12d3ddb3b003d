"""Child processes: our commands as a person or a cron job runs them, and nights that are killed or run concurrently.

Importing Dagster and loading the compiled search takes seconds, so one server process does it once
and each child is forked from it. Functions here run in a child.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Any

from bkt_pipeline.cli.main import main
from bkt_pipeline.db import connection
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.partitions import range_tags
from bkt_pipeline.defs.tags import AS_OF_TAG
from bkt_pipeline.instance.storage import dagster_instance


def start(
    work: Callable[..., None], *arguments: Any, environment: Mapping[str, str], output: Path
) -> ForkServerProcess:
    """Start `work` in a child with the environment; its output goes to the file."""
    child = _context().Process(target=_in_child, args=(work, arguments, dict(environment), str(output)))
    child.start()
    return child


def run(
    *arguments: str, environment: Mapping[str, str], folder: Path | None = None, stdin: str = ""
) -> "CompletedProcess[str]":
    """Run our command in a child in the folder, with this environment and no other variables."""
    with TemporaryDirectory() as streams:
        out, err = Path(streams, "stdout"), Path(streams, "stderr")
        place = (dict(environment), str(folder or streams), stdin, str(out), str(err))
        child = _context().Process(target=_command, args=(arguments, *place))
        child.start()
        child.join(300)
        code = child.exitcode
        child.kill()
        child.join()
        assert code is not None, f"{arguments} hangs: {err.read_text()}"
        return CompletedProcess(arguments, code, out.read_text(), err.read_text())


def nightly(*arguments: str) -> None:
    """Run the command as typed on the command line."""
    sys.exit(main(["nightly", *arguments]))


def impatient_nightly(*arguments: str) -> None:
    """Run the command with a short wait for answers of the database."""
    connection.ANSWER_SLACK_SECONDS = 1
    nightly(*arguments)


def click(first: str, last: str, as_of: str) -> None:
    """Execute the run that the UI starts for a range of partitions."""
    with dagster_instance() as instance:
        result = (
            build_definitions()
            .resolve_job_def("calibration")
            .execute_in_process(
                instance=instance, tags=range_tags(first, last) | {AS_OF_TAG: as_of}, raise_on_error=False
            )
        )
    sys.exit(0 if result.success else 1)


def _command(
    arguments: Sequence[str], environment: dict[str, str], folder: str, stdin: str, out: str, err: str
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    reading, writing = os.pipe()
    # A pipe takes this much without a reader.
    assert os.write(writing, stdin.encode()) == len(stdin.encode()) <= 4096
    os.close(writing)
    os.dup2(reading, 0)
    os.close(reading)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    for number, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.exit(main(arguments))


def _in_child(
    work: Callable[..., None], arguments: Sequence[Any], environment: Mapping[str, str], output: str
) -> None:
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.environ.update(environment)
    work(*arguments)


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bkt_pipeline_tests.helpers.preloaded"])
    return context
