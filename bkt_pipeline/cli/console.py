"""The consoles and exit codes of the command line: progress and messages on stderr, results on stdout."""

import io
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from bkt_pipeline.calibration.labels import printable
from bkt_pipeline.defs.progress import Progress

T = TypeVar("T")

DONE, SOME_FAILED, UNUSABLE = 0, 1, 2
PIPE_WIDTH = 160  # used for a pipe, which has no width; fits every column of the night's table


class _Forgiving(io.TextIOWrapper):
    """A stream that ignores write failures: a full disk or a closed pipe must not end a night."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            super().flush()

    def close(self) -> None:
        with suppress(OSError, ValueError):
            super().close()


class _Output(Console):
    """A console for results whose reader may go away, as `head` does."""

    def on_broken_pipe(self) -> None:
        """Show nothing more. Rich would end the command with exit code 1, although what it did is done."""
        with suppress(SystemExit):
            super().on_broken_pipe()


def open_closed_streams() -> None:
    """Give stdin, stdout and stderr to the null device where they are closed.

    Otherwise the next file or connection would get their numbers, and child processes would write into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # The system gives the lowest number that is free.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def finish_stdout() -> None:
    """Write what is left for stdout; if that fails, give it to the null device.

    Otherwise the interpreter would try again when it exits, and change the exit code.
    """
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError), open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), sys.stdout.fileno())


def out() -> Console:
    """The console for results."""
    with suppress(AttributeError, OSError, ValueError):
        # Characters outside the encoding are escaped.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    console = _Output(highlight=False)
    return console if console.is_terminal else _Output(highlight=False, width=PIPE_WIDTH)


def err() -> Console:
    """The console for everything else: the terminal itself, even while Dagster captures a run's output."""
    try:
        raw: Any = os.fdopen(os.dup(sys.stderr.fileno()), "wb")
    except (AttributeError, OSError, ValueError):
        # stderr is closed.
        raw = io.BytesIO()
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    file = _Forgiving(raw, encoding, errors="backslashreplace", line_buffering=True)
    console = Console(file=file, highlight=False)
    return (
        console
        if console.is_terminal
        else Console(file=file, highlight=False, width=PIPE_WIDTH, soft_wrap=True)
    )


def write_line(console: Console, line: str) -> None:
    """Print one plain line; control characters are escaped."""
    console.print(printable(line), markup=False, soft_wrap=True)


class ConsoleProgress(Progress):
    """A live progress bar on a terminal; otherwise one line for each stage."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def track(self, what: str, work: Iterable[T], total: int) -> Iterator[T]:
        if not self.console.is_terminal:
            self.say(f"{what} …")
            yield from work
            return
        columns = (TextColumn(f"{what:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bar(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            for piece in work:
                yield piece
                bar.advance(task)

    def say(self, what: str) -> None:
        write_line(self.console, what)


class ConsoleLog(logging.Handler):
    """Prints our own log records as plain lines."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        write_line(self.console, record.getMessage())
