"""The command `migrate`: our own tables, brought up to date."""

import argparse
from typing import Any


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    migrate = commands.add_parser(
        "migrate",
        help="bring our tables up to date",
        description="Makes the schema bkt_pipeline, or brings it up to date, and makes skill_bkt_params where "
        "it is missing. A night does the same where its role may; where it may not, run this as the owner of "
        "the platform's tables, then deploy/grants.sql.",
    )
    migrate.set_defaults(run=run_migrate)


def run_migrate(options: argparse.Namespace) -> int:
    """Migrate by opening, which is all it takes with the rights for it."""
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.db.migrations import current

    with open_database() as database:
        print(f"the schema bkt_pipeline is at revision {database.run(current)}, skill_bkt_params is there")
    return 0
