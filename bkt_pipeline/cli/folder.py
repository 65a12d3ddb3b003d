"""The working folder: nothing in it is used unless the command line or a setting names it.

Users run commands in any folder, and someone else may have written its files. Python would import a secrets.py from
there, Dagster would read a .env, and numba its own settings.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

ELSEWHERE = "/"
URL_VARIABLES = ("DATABASE_URL", "DAGSTER_POSTGRES_URL")
PATH_VARIABLES = (
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "BKT_PIPELINE_HOME",
    "DAGSTER_HOME",
    "MPLCONFIGDIR",
    "NUMBA_CACHE_DIR",
    "PGPASSFILE",
    "PGSERVICEFILE",
    "PGSSLCERT",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLKEY",
    "PGSSLROOTCERT",
)
# A file in a Postgres URL or in a `host=... sslkey=...` string.
_FILE_PARAMETER = re.compile(
    r"(?<=[?&\s])(passfile|sslcert|sslcrl|sslcrldir|sslkey|sslrootcert)=([^&\s']+)", re.ASCII
)


@contextmanager
def outside_the_working_folder() -> Iterator[None]:
    """Work in the root folder without changing what any setting refers to; child processes inherit both."""
    before = working_folder()
    moved = environment_elsewhere(os.environ, before)
    changed = {name: os.environ.get(name) for name in moved if os.environ.get(name) != moved[name]}
    os.environ.update(moved)
    os.chdir(ELSEWHERE)
    try:
        yield
    finally:
        for name, value in changed.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        with suppress(OSError):
            os.chdir(before)


def working_folder() -> Path:
    """The working folder, or the root folder if the working folder was deleted or cannot be read."""
    try:
        return Path.cwd()
    except OSError:
        return Path(ELSEWHERE)


def environment_elsewhere(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The variables with relative paths made absolute from the folder, and set so that Python imports nothing there."""

    def absolute(path: str) -> str:
        # `system` is a value of sslrootcert. A home folder (~) is expanded by the program that reads the variable.
        return path if path == "system" or path.startswith("~") else os.path.normpath(folder / path)

    def absolute_parameter(match: re.Match[str]) -> str:
        path = unquote(match[2])
        return match[0] if absolute(path) == path else f"{match[1]}={quote(absolute(path))}"

    moved = dict(environment, PYTHONSAFEPATH="1")
    for name in PATH_VARIABLES:
        if moved.get(name):
            moved[name] = absolute(moved[name])
    for name in URL_VARIABLES:
        if moved.get(name):
            moved[name] = _FILE_PARAMETER.sub(absolute_parameter, moved[name])
    if "PYTHONPATH" in moved:
        # An empty part means the working folder, and is usually there by accident.
        parts = [absolute(part) for part in moved["PYTHONPATH"].split(os.pathsep) if part]
        moved["PYTHONPATH"] = os.pathsep.join(parts)
    return moved
