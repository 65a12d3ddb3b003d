"""The command `migrate`: create our own tables, or bring them up to date."""

import argparse
from importlib import resources
from typing import Any


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    migrate = commands.add_parser(
        "migrate",
        help="create our tables or bring them up to date",
        description="Creates the schema bkt_pipeline or brings it up to date, and creates skill_bkt_params if "
        "it is missing. A night does the same if its role has the rights; if not, run this command as the owner of "
        "the platform's tables, then the SQL of --print-grants.",
    )
    migrate.add_argument(
        "--print-grants",
        action="store_true",
        help="print the SQL that creates the role of the nights and grants it what it needs; changes nothing",
    )
    migrate.set_defaults(run=run_migrate)


def run_migrate(options: argparse.Namespace) -> int:
    """Open the database, which migrates it, or print the grants."""
    if options.print_grants:
        print(resources.files("bkt_pipeline.db").joinpath("grants.sql").read_text(encoding="utf-8"), end="")
        return 0
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.db.migrations import current

    with open_database() as database:
        print(f"the schema bkt_pipeline is at revision {database.run(current)}, and skill_bkt_params exists")
    return 0
