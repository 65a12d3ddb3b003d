"""The command `doctor`: check the configuration and report what a night would use."""

import argparse
from functools import partial
from typing import Any

from bkt_pipeline.cli.console import DONE


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    doctor = commands.add_parser(
        "doctor",
        help="check the configuration and report what a night would use",
        description="Reports which database, server and tables a night would use, how many attempts are in the "
        "window, which indexes are missing (with the statements that create them), the schema's revision, "
        "how the last night ended and where windows are stored. Changes nothing.",
    )
    doctor.set_defaults(run=run_doctor)


def run_doctor(options: argparse.Namespace) -> int:
    """Check, and print each finding on a line."""
    from bkt_pipeline.cli.console import out
    from bkt_pipeline.db.connection import close
    from bkt_pipeline.db.database import connect
    from bkt_pipeline.db.doctor import findings
    from bkt_pipeline.db.retry import retrying
    from bkt_pipeline.windows.store import window_store

    def report(name: str, value: str) -> None:
        out().print(f"[bold]{name:<16}[/]", value.replace("[", r"\["), soft_wrap=True)

    for name, value in findings():
        report(name, value)
    engine, _ = connect(budget_seconds=0)
    try:
        windows = window_store(partial(retrying, engine))
        windows.check_access()
    finally:
        close(engine)
    report("windows", f"{windows.location}, which can be read and written")
    return DONE
