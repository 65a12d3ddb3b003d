"""The command `forget`: deletes the stored answers of one student."""

import argparse
from functools import partial
from typing import Any


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    forget = commands.add_parser(
        "forget",
        help="delete the stored answers of one student",
        description="Deletes the answers of one student from the stored windows, the only place that holds data about "
        "single students. First delete the student's attempts from the platform's tables, or the next night reads them "
        "again. Backups of the database, and old versions of the objects in an S3 bucket with versioning, are not "
        "changed.",
    )
    forget.add_argument(
        "--student", metavar="ID", required=True, help="the student, as in attempts.student_id"
    )
    forget.set_defaults(run=run_forget)


def run_forget(options: argparse.Namespace) -> int:
    """Forget the student, and report how many windows changed. The id is not repeated."""
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.db.spellings import spellings
    from bkt_pipeline.windows.store import window_store

    with open_database() as database:
        ids = database.run(partial(spellings, source=database.platform, student_id=options.student))
        store = window_store(database.run)
        changed = sum(store.forget(student_id) for student_id in sorted(ids))
    print(f"deleted the answers of the student from {changed} windows")
    return 0
