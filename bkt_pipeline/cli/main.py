"""The command `bkt-pipeline`: nightly, ui, load, doctor; upkeep.py adds migrate, rollback and prune."""

import argparse
import datetime as dt
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from bkt_pipeline import __version__
from bkt_pipeline.cli import ui
from bkt_pipeline.cli.folder import outside_the_working_folder, working_folder
from bkt_pipeline.cli.upkeep import add_commands
from bkt_pipeline.errors import BktError

DONE, SOME_FAILED, UNUSABLE = 0, 1, 2

HELP = """Recalibrates the BKT parameters of every skill from the last 30 days of attempts.

DATABASE_URL says which Postgres holds the platform's skills, items and attempts. Without it an
embedded Postgres is used, which keeps its data under BKT_PIPELINE_HOME and starts with a synthetic
school, so every command works on a bare machine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the return value is the exit code: 0 done, 1 some skill failed, 2 unusable."""
    options = parser().parse_args(arguments)
    for name in ("json", "file"):
        if getattr(options, name, None) not in (None, "-"):
            setattr(options, name, working_folder() / getattr(options, name))
    from bkt_pipeline.cli.console import ConsoleLog, err

    options.console = err()
    log = logging.getLogger("bkt_pipeline")
    log.setLevel(logging.INFO)
    log.handlers = [ConsoleLog(options.console)]
    log.propagate = False
    # Else what other packages warn of comes out between our lines.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        with outside_the_working_folder():
            code: int = options.run(options)
    except BktError as error:
        print(f"bkt-pipeline {options.command}: {error}", file=sys.stderr)
        return UNUSABLE
    except DBAPIError as error:
        # Its own text quotes the statement.
        from bkt_pipeline.db.retry import reason

        print(f"bkt-pipeline {options.command}: the database refused: {reason(error)}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print(f"bkt-pipeline {options.command}: interrupted; what was stored so far stands", file=sys.stderr)
        return 130
    finally:
        log.handlers.clear()
        options.console.file.close()
    return code


def parser() -> argparse.ArgumentParser:
    """The command line and its help."""
    top = argparse.ArgumentParser(
        "bkt-pipeline", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"bkt-pipeline {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    nightly = commands.add_parser(
        "nightly",
        help="calibrate every active skill now",
        description="Runs the night through Dagster in this process and prints a table of the skills. "
        "A skill with fewer than 50 graded attempts in the window is skipped and keeps the row it has. "
        "Exit code: 0 done (skipped skills are fine), 1 some skill failed and the others are stored, "
        "2 wrong usage or no database.",
    )
    nightly.add_argument(
        "--as-of",
        metavar="ISO",
        help="end of the 30-day window, e.g. 2026-01-31T07:00:00Z (UTC where it names no zone; default: now)",
    )
    nightly.add_argument(
        "--skill",
        metavar="ID",
        action="append",
        default=[],
        help="only this skill; may be given several times",
    )
    nightly.add_argument(
        "--json",
        metavar="FILE",
        help="write the night's result as JSON; - prints it, and nothing else, on stdout",
    )
    nightly.add_argument(
        "--skip-irt",
        action="store_true",
        help="leave out the calibration of the items, which follows the skills",
    )
    nightly.add_argument(
        "-v", "--verbose", action="store_true", help="show Dagster's own log, a line an event"
    )
    nightly.set_defaults(run=run_nightly)

    ui.add_command(commands)

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

    doctor = commands.add_parser(
        "doctor",
        help="say what a night would find",
        description="Says which database, server and tables a night would use, how many attempts are in the "
        "window, which indexes are missing (with the statements that make them), the schema's revision, "
        "how the last night ended and where windows are kept. Changes nothing.",
    )
    doctor.set_defaults(run=run_doctor)
    add_commands(commands)
    return top


def run_nightly(options: argparse.Namespace) -> int:
    """Calibrate, then show the table or the JSON."""
    started = time.perf_counter()
    from bkt_pipeline.defs.resources import shared
    from bkt_pipeline.defs.tags import parse_moment

    as_of = parse_moment(options.as_of) if options.as_of else dt.datetime.now(dt.UTC)
    from bkt_pipeline.cli import console
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.definitions import build_definitions
    from bkt_pipeline.defs.night import run_night
    from bkt_pipeline.instance.storage import dagster_instance

    with open_database() as database, dagster_instance() as instance:
        night = run_night(
            database,
            build_definitions(console.ConsoleProgress(options.console), shared(database)),
            instance,
            as_of,
            options.skill,
            log_events=options.verbose,
            with_items=not options.skip_irt,
        )
    if options.json and options.json != "-":
        Path(options.json).write_text(json.dumps(night.result, indent=2) + "\n")
    if options.json == "-":
        print(json.dumps(night.result, indent=2))
    else:
        shown = console.out()
        shown.print(console.night_table(night.outcomes, night.result["calibrated_skills"]))
        shown.print(f"\n{console.night_totals(night.outcomes, time.perf_counter() - started)}")
        if night.items is not None:
            shown.print(console.items_totals(night.items, night.items_seconds))
        shown.print("Look at it in the browser: bkt-pipeline ui")
    became = [outcome.outcome for outcome in (*night.outcomes, *(night.items or ()))]
    return SOME_FAILED if "failed" in became else DONE


def run_load(options: argparse.Namespace) -> int:
    """Check the whole file, then write it."""
    started = time.perf_counter()
    from bkt_pipeline.db.attempts_file import read_attempts_file
    from bkt_pipeline.db.database import connect, drop_synthetic_school
    from bkt_pipeline.db.retry import retrying
    from bkt_pipeline.db.source_tables import create_source_tables, write_attempts

    attempts = read_attempts_file(options.file, dt.datetime.now(dt.UTC))
    engine, embedded = connect(patience_seconds=0)

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


def run_doctor(options: argparse.Namespace) -> int:
    """Look and tell."""
    from bkt_pipeline.cli.console import out
    from bkt_pipeline.db.doctor import findings
    from bkt_pipeline.windows.postgres import PostgresWindows
    from bkt_pipeline.windows.store import s3_windows

    def tell(name: str, value: str) -> None:
        out().print(f"[bold]{name:<16}[/]", value.replace("[", r"\["), soft_wrap=True)

    for name, value in findings():
        tell(name, value)
    windows = s3_windows()
    tell("windows", windows.look() if windows else PostgresWindows.where)
    return DONE
