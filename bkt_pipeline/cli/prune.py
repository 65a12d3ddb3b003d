"""The command `prune`: delete old nights."""

import argparse
import datetime as dt
from functools import partial
from typing import Any

from bkt_pipeline.cli.console import DONE
from bkt_pipeline.errors import InvalidSettings

KEPT_NIGHTS = 90


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    prune = commands.add_parser(
        "prune",
        help="delete old nights",
        description="Keeps the parameters and outcomes of the newest nights, and what is needed to roll back to any "
        "of them, and deletes the rest, with the runs of those nights and their events in Dagster. Also deletes the "
        "windows of skills that were not read in the last N days before the newest night, such as those of retired "
        "skills.",
    )
    prune.add_argument(
        "--nights",
        metavar="N",
        type=int,
        default=KEPT_NIGHTS,
        help=f"how many nights to keep (default: {KEPT_NIGHTS})",
    )
    prune.set_defaults(run=run_prune)


def run_prune(options: argparse.Namespace) -> int:
    """Prune, and report what was deleted."""
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.db.prune import prune, windows_since
    from bkt_pipeline.instance.storage import check_storage
    from bkt_pipeline.windows.store import window_store

    if options.nights < 1:
        raise InvalidSettings(f"--nights is {options.nights}, but must be at least 1")
    check_storage()
    with open_database() as database:
        store = window_store(database.run)
        gone = database.run(partial(prune, nights=options.nights))
        since = database.run(partial(windows_since, nights=options.nights))
        windows = store.prune(since) if since else 0
    if gone is None:
        print(
            f"there are at most {options.nights} nights, so none was deleted; "
            f"deleted {windows} windows of skills that are no longer read"
        )
        return DONE
    print(
        f"kept the nights since {gone.since}; deleted {gone.fits} rows of parameters, {gone.outcomes} outcomes "
        f"and {windows} windows",
        flush=True,
    )
    print(f"deleted {_delete_runs(gone.since)} runs of Dagster, with their events")
    return DONE


def _delete_runs(since: dt.date) -> int:
    """Delete the nights' runs from Dagster, if it has been used here."""
    from bkt_pipeline.defs.installation import Installation
    from bkt_pipeline.defs.old_runs import delete_runs_before
    from bkt_pipeline.instance.storage import dagster_instance, is_used

    if not is_used():
        return 0
    with dagster_instance() as instance:
        return delete_runs_before(instance, Installation.named(), since)
