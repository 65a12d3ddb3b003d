"""The command `load`: a file of answers into the database."""

import argparse
import datetime as dt
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from bkt_pipeline.cli.console import DONE


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    load = commands.add_parser(
        "load",
        help="load a CSV file of answers",
        description="Loads a CSV file (or .csv.gz) with the columns skill_id, student_id, item_id, is_correct "
        "(0, 1, or empty for not graded yet) and created_at (ISO 8601) or order (an integer) into the embedded "
        "database, where it takes the place of the synthetic school, or into an empty one at DATABASE_URL. "
        "A bad row is refused by its line number before anything is written.",
    )
    load.add_argument("file", type=Path, metavar="FILE", help="a .csv or .csv.gz file")
    load.set_defaults(run=run_load)


def run_load(options: argparse.Namespace) -> int:
    """Check the whole file, then write it."""
    started = time.perf_counter()
    from bkt_pipeline.db.attempts_file import read_attempts_file
    from bkt_pipeline.db.database import connect, drop_synthetic_school
    from bkt_pipeline.db.retry import retrying
    from bkt_pipeline.db.source_tables import create_source_tables, write_attempts

    attempts = read_attempts_file(options.file, dt.datetime.now(dt.UTC))
    engine, embedded = connect(budget_seconds=0)

    def write(connection: Connection) -> None:
        (drop_synthetic_school if embedded else create_source_tables)(connection)
        write_attempts(connection, attempts)

    retrying(engine, write)
    engine.dispose()
    seconds = time.perf_counter() - started
    print(
        f"loaded {len(attempts):,} attempts of {len(attempts.skills):,} skills in {seconds:.1f} s; "
        "next: bkt-pipeline nightly"
    )
    return DONE
