"""The command `doctor`: check the configuration and report what a night would use."""

import argparse
import datetime as dt
import re
from functools import partial
from typing import Any

from bkt_pipeline.errors import BktError, DatabaseUnavailable, InvalidSettings, WindowStoreUnavailable


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
    doctor.add_argument(
        "--max-age",
        metavar="AGE",
        help="only check that the latest night that calibrated a skill is at most this old, as in 26h, 90m or 2d; exits 1 "
        "with the reason if not. For a cron job or a probe, because a daemon that does not run reports nothing",
    )
    doctor.set_defaults(run=run_doctor)


def run_doctor(options: argparse.Namespace) -> int:
    """Print the findings line by line."""
    if options.max_age is not None:
        return _check_age(options)
    from rich.text import Text

    from bkt_pipeline.calibration.labels import printable
    from bkt_pipeline.cli.console import out
    from bkt_pipeline.db.connection import close
    from bkt_pipeline.db.database import connect
    from bkt_pipeline.db.doctor import WOULD_FAIL, diagnose
    from bkt_pipeline.db.retry import retrying
    from bkt_pipeline.defs.notify.deliver import receivers, unusable_receivers
    from bkt_pipeline.windows.store import window_store

    def report(name: str, value: str) -> None:
        out().print(Text.assemble((f"{name:<16} ", "bold"), printable(value)), soft_wrap=True)

    found = diagnose()
    if fault := _fault_of_the_storage():
        found.add("fails", fault, WOULD_FAIL)
    if advice := _advice_on_the_storage():
        found.add("storage", advice)
    for name, value in found.lines:
        report(name, value)
    engine, _ = connect(budget_seconds=0)
    try:
        windows = window_store(partial(retrying, engine))
        windows.check_access()
        report("windows", f"{windows.location}, which can be read and written")
    except (DatabaseUnavailable, WindowStoreUnavailable) as error:
        report("fails", str(error))
        found.exit_code = max(found.exit_code, WOULD_FAIL)
    finally:
        close(engine)
    for name, problem in {**dict.fromkeys(receivers(), "ready"), **unusable_receivers()}.items():
        report("messages", f"{name}: {problem}")
    return found.exit_code


def read_age(text: str) -> dt.timedelta:
    """An age such as 26h.

    Raises
    ------
    InvalidSettings
        The text is not a whole number of minutes (m), hours (h) or days (d).

    Examples
    --------
    >>> read_age("26h")
    datetime.timedelta(days=1, seconds=7200)
    """
    found = re.fullmatch(r"([0-9]{1,5})([mhd])", text.strip())
    if found is None:
        raise InvalidSettings(
            f"--max-age is {text!r}; use whole minutes, hours or days, as in 90m, 26h or 2d"
        )
    return (
        int(found[1])
        * {"m": dt.timedelta(minutes=1), "h": dt.timedelta(hours=1), "d": dt.timedelta(1)}[found[2]]
    )


def _check_age(options: argparse.Namespace) -> int:
    """Print one line; exit 1 if no night calibrated a skill recently enough."""
    from bkt_pipeline.cli.console import DONE, SOME_FAILED, write_line
    from bkt_pipeline.db.connection import close
    from bkt_pipeline.db.database import connect
    from bkt_pipeline.db.migrations import current
    from bkt_pipeline.db.nights import latest_calibration
    from bkt_pipeline.db.retry import retrying

    allowed = read_age(options.max_age)
    engine, _ = connect(budget_seconds=0)
    try:
        latest = retrying(engine, lambda found: latest_calibration(found) if current(found) else None)
    finally:
        close(engine)
    if latest is None:
        write_line(options.console, "no night has calibrated a skill in this database yet")
        return SOME_FAILED
    as_of, age = latest
    line = f"the latest night that calibrated a skill is that as of {as_of:%Y-%m-%d %H:%M} UTC, {_hours(age)} ago"
    if age > allowed:
        write_line(options.console, f"{line}; allowed are {options.max_age.strip()}")
        return SOME_FAILED
    print(line, flush=True)
    return DONE


def _hours(age: dt.timedelta) -> str:
    minutes = max(0, int(age.total_seconds() // 60))
    return f"{minutes // 60} h {minutes % 60} min"


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


def _advice_on_the_storage() -> str | None:
    """What would make another Dagster storage than ours faster."""
    from bkt_pipeline.settings import settings

    if settings().dagster_home is None:
        return None
    from bkt_pipeline.instance.storage import slow_to_start

    return slow_to_start()
