"""The commands that look after what is stored: migrate, rollback, prune."""

import argparse
import datetime as dt
import sys
from functools import partial
from typing import Any

from bkt_pipeline.errors import InvalidSettings

KEPT_NIGHTS = 90


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command line."""
    migrate = commands.add_parser(
        "migrate",
        help="bring our tables up to date",
        description="Makes the schema bkt_pipeline, or brings it up to date, and makes skill_bkt_params where "
        "it is missing. A night does the same where its role may; where it may not, run this as the owner of "
        "the platform's tables, then deploy/grants.sql.",
    )
    migrate.set_defaults(run=run_migrate)

    rollback = commands.add_parser(
        "rollback",
        help="restore the parameters of an earlier night",
        description="Gives skill_bkt_params, in one transaction, the parameters that it held at the end of a "
        "night, and leaves a mark in the ledger. The next night publishes again.",
    )
    rollback.add_argument(
        "--night", metavar="DATE", required=True, help="the night to go back to, e.g. 2026-01-31"
    )
    rollback.add_argument(
        "--skill",
        metavar="ID",
        action="append",
        default=[],
        help="only this skill; may be given several times",
    )
    rollback.set_defaults(run=run_rollback)

    prune = commands.add_parser(
        "prune",
        help="delete old nights",
        description="Keeps the parameters and outcomes of the newest nights, with what it takes to roll back to any "
        "of them, and deletes the rest. It also deletes the windows of skills that were not read in as many days "
        "before the newest night, such as those of retired skills.",
    )
    prune.add_argument(
        "--nights",
        metavar="N",
        type=int,
        default=KEPT_NIGHTS,
        help=f"how many to keep (default: {KEPT_NIGHTS})",
    )
    prune.set_defaults(run=run_prune)


def run_migrate(options: argparse.Namespace) -> int:
    """Migrate by opening, which is all it takes with the rights for it."""
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.db.migrations import current

    with open_database() as database:
        print(f"the schema bkt_pipeline is at revision {database.run(current)}, skill_bkt_params is there")
    return 0


def run_rollback(options: argparse.Namespace) -> int:
    """Go back, and tell how far that came."""
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.db.rollback import roll_back

    try:
        night = dt.date.fromisoformat(options.night)
    except ValueError:
        raise InvalidSettings(f"--night {options.night!r} is no date; say it like 2026-01-31") from None
    with open_database() as database:
        done = database.run(partial(roll_back, platform=database.platform, night=night, skills=options.skill))
    print(
        f"{len(done.restored)} skills have the parameters again that they had after the night of {night}, "
        f"{len(done.unchanged)} had them already"
    )
    for key, why in done.refused.items():
        print(f"{key} could not be restored: {why}", file=sys.stderr)
    if done.without:
        print(f"{len(done.without)} were first calibrated later, and keep what they have")
    return 1 if done.refused else 0


def run_prune(options: argparse.Namespace) -> int:
    """Prune, and report what was deleted."""
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.db.prune import prune, windows_since
    from bkt_pipeline.windows.store import window_store

    if options.nights < 1:
        raise InvalidSettings(f"--nights is {options.nights}; at least the last one is kept")
    with open_database() as database:
        store = window_store(database.run)
        gone = database.run(partial(prune, nights=options.nights))
        since = database.run(partial(windows_since, nights=options.nights))
        windows = store.prune(since) if since else 0
    if gone is None:
        print(
            f"there are not more than {options.nights} nights; deleted {windows} windows of skills no longer read"
        )
    else:
        print(
            f"kept the nights since {gone.since}; deleted {gone.fits} parameters, {gone.outcomes} outcomes "
            f"and {windows} windows"
        )
    return 0
