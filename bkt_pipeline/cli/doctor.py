"""The command `doctor`: check the configuration and report what a night would use."""

import argparse
from functools import partial
from typing import Any


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    doctor = commands.add_parser(
        "doctor",
        help="check the configuration and report what a night would use",
        description="Tries what a night does, in a transaction that is rolled back, and reports which database, "
        "server and tables a night would use, how many attempts are in the window and what it leaves out, which "
        "indexes are missing (with the statements that create them), the schema's revision, how the last night "
        "ended and where windows are kept. Exits 1 where a night would fail, and 2 where the platform's tables are "
        "not what it needs; then prints views that adapt tables of other names.",
    )
    doctor.set_defaults(run=run_doctor)


def run_doctor(options: argparse.Namespace) -> int:
    """Print the findings line by line."""
    from rich.text import Text

    from bkt_pipeline.cli.console import out, printable
    from bkt_pipeline.db.connection import close
    from bkt_pipeline.db.database import connect
    from bkt_pipeline.db.doctor import diagnose
    from bkt_pipeline.db.retry import retrying
    from bkt_pipeline.windows.store import window_store

    def report(name: str, value: str) -> None:
        out().print(Text.assemble((f"{name:<16} ", "bold"), printable(value)), soft_wrap=True)

    found = diagnose()
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
