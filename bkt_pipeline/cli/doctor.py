"""The command `doctor`: check the configuration and report what a night would use."""

import argparse
from functools import partial
from typing import Any

from bkt_pipeline.errors import BktError


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    doctor = commands.add_parser(
        "doctor",
        help="check the configuration and report what a night would use",
        description="Tries the steps of a night in a transaction that is rolled back, and reports which database, "
        "server and tables a night would use, how many attempts the window contains and leaves out, which indexes are "
        "missing (with the statements that create them), the schema's revision, how the last night ended and where "
        "windows are stored. Exit codes: 1 if a night would fail, 2 if the platform's tables do not have the required "
        "shape; in that case it prints views that adapt tables with other names.",
    )
    doctor.set_defaults(run=run_doctor)


def run_doctor(options: argparse.Namespace) -> int:
    """Print the findings line by line."""
    from rich.text import Text

    from bkt_pipeline.calibration.labels import printable
    from bkt_pipeline.cli.console import out
    from bkt_pipeline.db.connection import close
    from bkt_pipeline.db.database import connect
    from bkt_pipeline.db.doctor import WOULD_FAIL, diagnose
    from bkt_pipeline.db.retry import retrying
    from bkt_pipeline.windows.store import window_store

    def report(name: str, value: str) -> None:
        out().print(Text.assemble((f"{name:<16} ", "bold"), printable(value)), soft_wrap=True)

    found = diagnose()
    if fault := _fault_of_the_storage():
        found.add("fails", fault, WOULD_FAIL)
    for name, value in found.lines:
        report(name, value)
    engine, _ = connect(budget_seconds=0)
    try:
        windows = window_store(partial(retrying, engine))
        windows.check_access()
    finally:
        close(engine)
    report("windows", f"{windows.location}, which can be read and written")
    return found.exit_code


def _fault_of_the_storage() -> str | None:
    """Why DAGSTER_POSTGRES_URL cannot be used; None if it can, or is not set."""
    from bkt_pipeline.settings import settings

    if settings().dagster_postgres_url is None:
        return None
    # It loads Dagster, which takes seconds.
    from bkt_pipeline.instance.storage import check_storage

    try:
        check_storage()
    except BktError as error:
        return str(error)
    return None
