"""What the command line shows: progress on stderr, tables on stdout."""

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.db.ledger import ItemsOutcome, SkillOutcome
from bkt_pipeline.defs.progress import Progress
from bkt_pipeline.model.irt.fits import ItemStatus

T = TypeVar("T")

PIPE_WIDTH = 160  # a pipe has no width; wide enough for every column of the night's table
STYLES = {
    Outcome.CALIBRATED: "green",
    Outcome.SKIPPED: "yellow",
    Outcome.OVERTAKEN: "yellow",
    Outcome.FAILED: "red",
    Outcome.ROLLED_BACK: "yellow",
}


def out() -> Console:
    """The console for results."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def err() -> Console:
    """The console for everything else: the terminal itself, even while Dagster catches what a run prints."""
    file = os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1)
    console = Console(file=file, highlight=False)
    return (
        console
        if console.is_terminal
        else Console(file=file, highlight=False, width=PIPE_WIDTH, soft_wrap=True)
    )


class ConsoleProgress(Progress):
    """A live bar on a terminal, a line a stage otherwise."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def track(self, what: str, work: Iterable[T], total: int) -> Iterator[T]:
        if not self.console.is_terminal:
            self.console.print(f"{what} …")
            yield from work
            return
        columns = (TextColumn(f"{what:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bar(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            for piece in work:
                yield piece
                bar.advance(task)

    def say(self, what: str) -> None:
        self.console.print(what, markup=False)


class ConsoleLog(logging.Handler):
    """Our own log lines, as plain lines."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.print(record.getMessage(), markup=False)


def night_table(outcomes: Sequence[SkillOutcome], parameters: dict[str, dict[str, float]]) -> Table:
    """A row a skill: its data, its parameters, its fit, what became of it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("skill", overflow="fold")
    for name in ("attempts", "students", "p_l0", "p_transit", "p_slip", "p_guess", "ll/attempt"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", overflow="fold")
    for outcome in outcomes:
        fitted = parameters.get(outcome.skill_id)
        numbers = (
            [f"{fitted[name]:g}" for name in ("p_l0", "p_transit", "p_slip", "p_guess")]
            if fitted
            else [""] * 4
        )
        per_attempt = (
            f"{outcome.log_likelihood / outcome.attempts:.4f}"
            if outcome.log_likelihood and outcome.attempts
            else ""
        )
        status = f"[{STYLES[outcome.outcome]}]{outcome.outcome}[/]"
        table.add_row(
            _plain(outcome.skill_id),
            _count(outcome.attempts),
            _count(outcome.students),
            *numbers,
            per_attempt,
            f"{status}: {_plain(outcome.reason)}" if outcome.reason else status,
        )
    return table


def night_totals(outcomes: Sequence[SkillOutcome], seconds: float) -> str:
    """The line below the table."""
    counts = {kind: sum(outcome.outcome == kind for outcome in outcomes) for kind in STYLES}
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    attempts = sum(outcome.attempts or 0 for outcome in outcomes)
    likelihood = sum(outcome.log_likelihood or 0.0 for outcome in outcomes)
    return (
        f"{len(outcomes)} skills: {listed or 'none'}; {attempts:,} attempts, "
        f"log-likelihood {likelihood:,.1f}, {seconds:.1f} s"
    )


def items_totals(outcomes: Sequence[ItemsOutcome], seconds: float) -> str:
    """The line for the items, and one for each skill whose items failed."""
    counts = {status: sum(getattr(outcome, status) for outcome in outcomes) for status in ItemStatus}
    listed = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
    attempts = sum(outcome.attempts for outcome in outcomes)
    lines = [f"{sum(counts.values()):,} items: {listed or 'none'}; {attempts:,} attempts, {seconds:.1f} s"]
    lines += [
        f"[{STYLES[Outcome.FAILED]}]failed[/]: items of {_plain(outcome.skill_id)}: {_plain(outcome.reason or '')}"
        for outcome in outcomes
        if outcome.outcome is Outcome.FAILED
    ]
    return "\n".join(lines)


def _plain(value: str) -> str:
    return value.replace("[", r"\[")


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
