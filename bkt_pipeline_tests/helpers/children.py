"""Child processes for nights that are killed or run concurrently.

Importing Dagster and loading the compiled search takes seconds, so one server process does it once
and each child is forked from it. Functions here run in a child.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from bkt_pipeline.cli.main import main
from bkt_pipeline.db import connection
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.partitions import range_tags
from bkt_pipeline.defs.tags import AS_OF_TAG
from bkt_pipeline.instance.storage import dagster_instance
from bkt_pipeline.model import BktParams, calibrate
from bkt_pipeline.model.simulate import simulate


def start(
    work: Callable[..., None], *arguments: Any, environment: Mapping[str, str], output: Path
) -> ForkServerProcess:
    """Start `work` in a child with the environment; its output goes to the file."""
    child = _context().Process(target=_in_child, args=(work, arguments, dict(environment), str(output)))
    child.start()
    return child


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
    context.set_forkserver_preload([__name__])
    return context


if multiprocessing.current_process().name == "MainProcess" and "pytest" not in sys.modules:
    # Preloaded in the server process, so that children need not load it again.
    build_definitions()
    calibrate(simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=20, seed=1, lengths=4))
