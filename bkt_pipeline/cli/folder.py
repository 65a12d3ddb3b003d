"""The working folder: nothing in it counts unless the command line or a setting names it.

A person runs a command in whatever folder they happen to be in, and a stranger may have written its files.
Python would import a secrets.py there, Dagster would read a .env, numba and matplotlib their own settings.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote

URL_VARIABLES = ("DATABASE_URL", "DAGSTER_POSTGRES_URL")
FILE_VARIABLES = (
    "BKT_PIPELINE_HOME",
    "PGPASSFILE",
    "PGSERVICEFILE",
    "PGSSLCERT",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLKEY",
    "PGSSLROOTCERT",
)
# A relative file of a Postgres URL or of a `host=... sslkey=...` string; `system` is a value, not a file.
_RELATIVE_FILE = re.compile(
    r"(?<=[?&\s])(passfile|sslcert|sslcrl|sslcrldir|sslkey|sslrootcert)=(?!/|~|%2[fF]|system\b)([^&\s']+)"
)


def environment_elsewhere(environment: Mapping[str, str]) -> dict[str, str]:
    """The same settings for a process that works in another folder, from which it imports nothing."""
    base = Path.cwd()

    def absolute(path: str) -> str:
        return path if path == "system" else os.path.normpath(base / Path(path).expanduser())

    def with_absolute_file(match: re.Match[str]) -> str:
        return f"{match[1]}={quote(absolute(unquote(match[2])))}"

    moved = dict(environment, PYTHONSAFEPATH="1")
    for name in FILE_VARIABLES:
        if moved.get(name):
            moved[name] = absolute(moved[name])
    for name in URL_VARIABLES:
        if moved.get(name):
            moved[name] = _RELATIVE_FILE.sub(with_absolute_file, moved[name])
    # An empty part means the working folder.
    path = [absolute(one) for one in moved.pop("PYTHONPATH", "").split(os.pathsep) if one]
    return moved | {"PYTHONPATH": os.pathsep.join(path)} if path else moved
