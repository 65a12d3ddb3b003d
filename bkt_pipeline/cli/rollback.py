"""The command `rollback`: restore the parameters of an earlier night."""

import argparse
import datetime as dt
from functools import partial
from typing import Any

from bkt_pipeline.errors import InvalidSettings


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    rollback = commands.add_parser(
        "rollback",
        help="restore the parameters of an earlier night",
        description="Restores skill_bkt_params, in one transaction, to what it contained at the end of a night, and "
        "records this in the ledger. The next night publishes again as usual. Item parameters stay until then.",
    )
    rollback.add_argument(
        "--night", metavar="DATE", required=True, help="the night to restore, e.g. 2026-01-31"
    )
    rollback.add_argument(
        "--skill",
        metavar="ID",
        action="append",
        default=[],
        help="only this skill; may be given several times",
    )
    rollback.set_defaults(run=run_rollback)


def parse_night(text: str) -> dt.date:
    """The value of --night."""
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise InvalidSettings(f"--night {text!r} is not a date; use the form 2026-01-31") from None


def run_rollback(options: argparse.Namespace) -> int:
    """Roll back, and report what was restored."""
    from bkt_pipeline.calibration.labels import counted
    from bkt_pipeline.cli.console import write_line
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.db.isolation import shown_key
    from bkt_pipeline.db.rollback import roll_back

    night = parse_night(options.night)
    with open_database() as database:
        done = database.run(partial(roll_back, platform=database.platform, night=night, skills=options.skill))
    print(
        f"restored {counted(len(done.restored), 'skill')} to the parameters after the night of {night}; "
        f"{len(done.unchanged)} already had them"
    )
    for key, why in done.refused.items():
        write_line(options.console, f"{shown_key(key)} could not be restored: {why}")
    if done.without:
        print(f"first calibrated later, and left as they are: {counted(len(done.without), 'skill')}")
    return 1 if done.refused else 0
