"""The command `bkt-pipeline`: its subcommands; each failure is reported in one line with an exit code."""

import argparse
import logging
import sys
from collections.abc import Sequence

from bkt_pipeline import __version__
from bkt_pipeline.cli import compare, doctor, export, forget, load, migrate, nightly, prune, rollback, ui
from bkt_pipeline.cli.console import (
    UNUSABLE,
    ConsoleLog,
    err,
    finish_stdout,
    open_closed_streams,
    write_line,
)
from bkt_pipeline.cli.folder import outside_the_working_folder, working_folder
from bkt_pipeline.cli.interrupts import interruptible
from bkt_pipeline.errors import BktError

INTERRUPTED = 130

HELP = """Recalibrates the BKT parameters of every skill from the attempts of the last 30 days.

DATABASE_URL names the Postgres database with the platform's skills, items and attempts. Until one was used
on this machine, an embedded Postgres takes its place, so that every command works without any setup. It
starts with a synthetic school, and keeps its data under BKT_PIPELINE_HOME."""

COMMANDS = (nightly, ui, load, doctor, migrate, rollback, prune, forget, compare, export)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the return value is its exit code.

    0 done, 1 a skill failed or nothing was calibrated, 2 wrong usage or no usable database, 130 interrupted.
    """
    open_closed_streams()
    options = parser().parse_args(arguments)
    for name in ("file", "json", "out"):
        if str(getattr(options, name, None) or nightly.STDOUT) != nightly.STDOUT:
            setattr(options, name, working_folder() / getattr(options, name))
    console = options.console = err()
    log = logging.getLogger("bkt_pipeline")
    log.setLevel(logging.INFO)
    log.handlers = [ConsoleLog(console)]
    log.propagate = False
    # Without a handler on the root logger, warnings of other packages would appear between our lines.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        with interruptible(), outside_the_working_folder():
            from bkt_pipeline.embedded.fallback import choose_demo_without_platform

            choose_demo_without_platform()
            code: int = options.run(options)
    except KeyboardInterrupt:
        write_line(console, f"bkt-pipeline {options.command}: interrupted; everything stored so far is kept")
        return INTERRUPTED
    except Exception as error:
        if getattr(options, "verbose", False) and not isinstance(error, BktError):
            raise
        write_line(console, f"bkt-pipeline {options.command}: {_in_one_line(error)}")
        return UNUSABLE
    finally:
        log.handlers.clear()
        log.propagate = True
        console.file.close()
        finish_stdout()
    return code


def _in_one_line(error: Exception) -> str:
    if isinstance(error, BktError):
        return str(error)
    # The text of a database error quotes the statement and its parameters.
    from bkt_pipeline.db.retry import reason, sqlstate

    if sqlstate(error):
        return f"the database refused a statement: {reason(error)}"
    if isinstance(error, OSError):
        return str(error)
    return f"unexpected {type(error).__name__}: {reason(error)} (nightly --verbose shows the traceback)"


def parser() -> argparse.ArgumentParser:
    """The command line and its help."""
    top = argparse.ArgumentParser(
        "bkt-pipeline", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"bkt-pipeline {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_command(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
