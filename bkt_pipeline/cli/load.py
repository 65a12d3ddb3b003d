"""The command `load`: loads a file of answers into the database and reports what was loaded and what was not."""

import argparse
import datetime as dt
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bkt_pipeline.cli.console import DONE, out, write_line
from bkt_pipeline.errors import InvalidSettings

if TYPE_CHECKING:
    from bkt_pipeline.db.attempts_file import Attempts
    from bkt_pipeline.db.file_columns import FileFormat

STANDARD_INPUT = Path("/dev/stdin")

DESCRIPTION = """Loads a CSV or tab-delimited file (or .gz) into the embedded database, in place of the synthetic
school, or into an empty database at DATABASE_URL. The header names the columns, in any order:

  skill_id     required
  student_id   required
  is_correct   required: 1 or 0, true or false, correct or incorrect, right or wrong, yes or no; hint counts
               as wrong; empty for an answer that is not graded yet
  item_id      optional; without it each skill is one item
  created_at   optional: ISO 8601, UTC unless it names a zone
  order        optional: integers or times; used if there is no created_at

Without created_at the answers are placed within the day before the load, by order or else in the order of
the file. Rows without a skill or a student and exact repeats are left out and counted. If any other row is
bad, its line number is reported and nothing is written."""


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    load = commands.add_parser(
        "load",
        help="load a file of answers",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    load.add_argument("file", type=Path, metavar="FILE", help="the file; - reads standard input")
    load.add_argument(
        "--column",
        metavar="NAME=HEADER",
        action="append",
        default=[],
        help='which column of the file is NAME, e.g. --column skill_id="KC (Default)"; may be given several times',
    )
    load.add_argument(
        "--only",
        metavar="HEADER=VALUE",
        action="append",
        default=[],
        help="load only the rows with this value, e.g. --only original=1; may be given several times",
    )
    load.add_argument(
        "--delimiter",
        metavar="CHAR",
        default="",
        help="tab, comma, semicolon or another character (default: tab or comma, as in the header)",
    )
    load.add_argument(
        "--skill-separator",
        metavar="TEXT",
        default="",
        help="what separates several skills in one cell, e.g. '~~'; the answer then counts for each of them",
    )
    load.add_argument("--encoding", default="utf-8", help="e.g. latin-1 (default: utf-8)")
    load.add_argument(
        "--replace",
        action="store_true",
        help="replace the file that was loaded before and the results calibrated from it; rows that load did not "
        "write are never replaced",
    )
    load.set_defaults(run=run_load)


def run_load(options: argparse.Namespace) -> int:
    """Check the whole file, then write it, then report."""
    started = time.perf_counter()
    now = dt.datetime.now(dt.UTC)
    from bkt_pipeline.calibration.labels import counted
    from bkt_pipeline.db.attempts_file import read_attempts_file
    from bkt_pipeline.db.database import connect
    from bkt_pipeline.db.loaded_tables import load_attempts
    from bkt_pipeline.db.retry import retrying

    path = STANDARD_INPUT if str(options.file) == "-" else options.file
    attempts = read_attempts_file(path, now, _form(options))
    engine, embedded = connect(budget_seconds=0)
    store = partial(load_attempts, attempts=attempts, embedded=embedded, replace=options.replace)
    retrying(engine, store)
    engine.dispose()
    seconds = time.perf_counter() - started
    newest = _moment(int(attempts.created_us[-1]))
    night = f"bkt-pipeline nightly{_as_of(newest, now)}"
    loaded = (
        f"loaded {len(attempts):,} attempts of {counted(len(attempts.skills), 'skill')} in {seconds:.1f} s"
    )
    for line in (f"{loaded}; next: {night}", *_report(attempts, now)):
        write_line(out(), line)
    return DONE


def _form(options: argparse.Namespace) -> "FileFormat":
    from bkt_pipeline.db.file_columns import FileFormat

    columns: dict[str, str] = {}
    for name, header in (_pair("--column", given) for given in options.column):
        if name in columns:
            raise InvalidSettings(f"--column {name}=... is given twice; one column fills {name}.")
        columns[name] = header
    return FileFormat(
        columns=columns,
        only=tuple(_pair("--only", given) for given in options.only),
        delimiter=options.delimiter,
        skill_separator=options.skill_separator,
        encoding=options.encoding,
    )


def _pair(option: str, given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not (name.strip() and equals and (value.strip() or option == "--only")):
        raise InvalidSettings(f"{option} {given!r} has the wrong form; use {option} NAME=VALUE.")
    return name.strip(), value.strip()


def _moment(microseconds: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=microseconds)


def _as_of(newest: dt.datetime, now: dt.datetime) -> str:
    """The option with which a night finds answers, if the file's answers are too old for a night now."""
    from bkt_pipeline.settings import WINDOW_DAYS

    if newest > now - dt.timedelta(days=WINDOW_DAYS):
        return ""
    return f" --as-of {newest.date() + dt.timedelta(days=1)}"


def _report(attempts: "Attempts", now: dt.datetime) -> Iterator[str]:
    if attempts.left_out:
        yield "rows left out: " + ", ".join(attempts.left_out_by_reason())
    if attempts.changed_skills:
        yield (
            f'skill ids changed: {attempts.changed_skills:,}; "..." became one character, U+2026, because Dagster '
            'refuses "..." in partition keys'
        )
    yield _window_line(attempts, now)


def _window_line(attempts: "Attempts", now: dt.datetime) -> str:
    from bkt_pipeline.settings import WINDOW_DAYS

    window = dt.timedelta(days=WINDOW_DAYS)
    times = attempts.created_us
    oldest, newest = _moment(int(times[0])), _moment(int(times[-1]))
    start = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

    def in_window(as_of: dt.datetime) -> int:
        end = (as_of - start) // dt.timedelta(microseconds=1)
        begin = end - window // dt.timedelta(microseconds=1)
        return int(((times > begin) & (times <= end)).sum())

    if attempts.time_name != "created_at":
        order = (
            "the column order"
            if attempts.time_name
            else "their order in the file (no created_at and no order)"
        )
        return (
            f"the answers are placed by {order}, the last one now; all of them stay in the {WINDOW_DAYS}-day window "
            f"until {oldest + window:%Y-%m-%d %H:%M} UTC"
        )
    if newest <= now - window:
        as_of = dt.datetime.combine(newest.date() + dt.timedelta(days=1), dt.time(), dt.UTC)
        return (
            f"the newest answer is from {newest:%Y-%m-%d %H:%M} UTC, older than the {WINDOW_DAYS}-day window: a night "
            f"now would find no attempts; with --as-of {as_of:%Y-%m-%d} it finds {in_window(as_of):,} of "
            f"{len(attempts):,}"
        )
    line = f"{in_window(now):,} of {len(attempts):,} attempts are in the {WINDOW_DAYS} days before now"
    if newest > now:
        line += f"; {int((times > (now - start) // dt.timedelta(microseconds=1)).sum()):,} are in the future"
    return line
