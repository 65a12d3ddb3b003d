"""The command `nightly`: run a whole night now, and print a table of the skills and their outcomes."""

import argparse
import datetime as dt
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bkt_pipeline.cli.console import DONE, SOME_FAILED, ConsoleProgress, write_line
from bkt_pipeline.cli.files import written_whole
from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.settings import MIN_ATTEMPTS, WINDOW_DAYS

if TYPE_CHECKING:
    from bkt_pipeline.defs.night import NightRun

STDOUT = "-"
OPTIONS = ("estimator", "sequences", "window_days", "min_attempts")


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    nightly = commands.add_parser(
        "nightly",
        help="calibrate every active skill now",
        description="Runs the night through Dagster in this process and prints a table of the skills. "
        f"A skill with fewer than {MIN_ATTEMPTS} graded attempts in the window is skipped and keeps its row. "
        "Exit code: 0 done (skipped skills are fine), 1 some skill or run failed and the others are stored, nothing was "
        "calibrated, or there were fewer than half of the usual attempts, 2 wrong usage or no usable database, 130 "
        "interrupted.",
    )
    nightly.add_argument(
        "--as-of",
        metavar="ISO",
        help="end of the window, e.g. 2026-01-31T07:00:00Z (UTC if it has no time zone; default: now)",
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
        help="write the night's result as JSON; with - as FILE, print only the JSON on stdout",
    )
    nightly.add_argument(
        "--skip-irt",
        action="store_true",
        help="skip the item calibration, which follows the skills",
    )
    nightly.add_argument(
        "--estimator",
        choices=["grid", "polished", "pooled"],
        help="the estimates to publish in skill_bkt_params (default: BKT_ESTIMATOR, or grid); every night computes all "
        "three",
    )
    nightly.add_argument(
        "--sequences",
        choices=["window", "from_first_answer"],
        help="which answers to use: those in the window, or all answers, from their first, of the students who answered "
        "in the window (default: BKT_SEQUENCES, or window)",
    )
    nightly.add_argument(
        "--window-days",
        metavar="N",
        type=int,
        help=f"length of the window (default: BKT_WINDOW_DAYS, or {WINDOW_DAYS})",
    )
    nightly.add_argument(
        "--min-attempts",
        metavar="N",
        type=int,
        help="a skill with fewer graded attempts in the window is skipped (default: BKT_MIN_ATTEMPTS, or "
        f"{MIN_ATTEMPTS})",
    )
    nightly.add_argument(
        "--rehearse",
        action="store_true",
        help="run the night without publishing anything: the fits are stored apart; see bkt-pipeline compare",
    )
    nightly.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show Dagster's own log, and the traceback of an unexpected error",
    )
    nightly.set_defaults(run=run_nightly)


def run_nightly(options: argparse.Namespace) -> int:
    """Run the night, then print the table or the JSON. If the night fails as a whole, a message says so."""
    from bkt_pipeline.defs.messages import command_failed
    from bkt_pipeline.defs.tags import parse_moment

    as_of = parse_moment(options.as_of) if options.as_of else dt.datetime.now(dt.UTC)
    try:
        return _run(options, as_of)
    except InvalidSettings:
        raise
    except Exception as error:
        whole_night = not options.skill and not options.rehearse
        if whole_night and (problem := command_failed(as_of, error)):
            write_line(options.console, f"the message about the failed night was {problem}")
        raise


def _run(options: argparse.Namespace, as_of: dt.datetime) -> int:
    started = time.perf_counter()
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.definitions import build_definitions
    from bkt_pipeline.defs.launchpad import validated
    from bkt_pipeline.defs.night import run_night
    from bkt_pipeline.defs.resources import CalibrationSettings, shared
    from bkt_pipeline.instance.storage import check_storage, dagster_instance, write_events_in_batches

    given = {name: getattr(options, name) for name in OPTIONS if getattr(options, name) is not None}
    if options.rehearse:
        given["publish"] = False
    _ = validated(CalibrationSettings, given).options
    to_file = options.json and options.json != STDOUT
    with written_whole(Path(options.json)) if to_file else _nowhere() as file:
        check_storage()
        write_events_in_batches()
        with open_database() as database, dagster_instance() as instance:
            night = run_night(
                database,
                build_definitions(ConsoleProgress(options.console), shared(database)),
                instance,
                as_of,
                options.skill,
                log_events=options.verbose,
                with_items=not options.skip_irt,
                settings=given,
            )
        if file is not None:
            file.write_text(json.dumps(night.result, indent=2) + "\n", encoding="utf-8")
    if options.json == STDOUT:
        print(json.dumps(night.result, indent=2), flush=True)
    else:
        _show(night, time.perf_counter() - started, rehearsed=options.rehearse)
    return _exit_code(night, options)


def _exit_code(night: "NightRun", options: argparse.Namespace) -> int:
    for run_id, cause in night.failed_runs.items():
        write_line(options.console, f"run {run_id} did not succeed: {cause}")
    if night.not_delivered:
        write_line(options.console, f"the night's message was {night.not_delivered}")
    if night.warning:
        write_line(options.console, night.warning)
    return SOME_FAILED if night.failed_runs or night.warning or night.any_failed else DONE


def _show(night: "NightRun", seconds: float, *, rehearsed: bool) -> None:
    """Print the table and the totals. If output cannot be written, the night still counts as done."""
    from bkt_pipeline.cli import tables
    from bkt_pipeline.cli.console import out

    with suppress(OSError, ValueError):
        shown = out()
        table, reasons = tables.night_table(
            night.outcomes, night.result["calibrated_skills"], night.names, shown.width
        )
        shown.print(table)
        for line in reasons:
            shown.print(line, markup=False, soft_wrap=True)
        shown.print(f"\n{tables.night_totals(night.outcomes, seconds)}", markup=False, soft_wrap=True)
        if night.items is not None:
            totals = tables.items_totals(night.items, night.names, night.items_seconds)
            shown.print(totals, markup=False, soft_wrap=True)
        if night.comparison:
            shown.print(night.comparison, markup=False, soft_wrap=True)
        if night.item_comparison:
            shown.print(night.item_comparison, markup=False, soft_wrap=True)
        if night.left_out:
            shown.print(night.left_out, markup=False, soft_wrap=True)
        if rehearsed:
            shown.print("Nothing was published. Compare it with a night: bkt-pipeline compare DATE rehearsal")
        shown.print("To see the night in the browser: bkt-pipeline ui", markup=False)
        sys.stdout.flush()


@contextmanager
def _nowhere() -> Iterator[None]:
    yield None
