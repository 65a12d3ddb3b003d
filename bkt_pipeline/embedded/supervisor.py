"""The supervisor: a small process that starts the server and stops it when no process uses it any more."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bkt_pipeline.errors import EmbeddedPostgresError

if sys.platform != "win32":
    import fcntl

from bkt_pipeline.embedded.binaries import ENVIRONMENT, run, tail, usable_binaries
from bkt_pipeline.embedded.data import initialise, write_login_rules
from bkt_pipeline.embedded.folders import account_for, server_user
from bkt_pipeline.embedded.locks import (
    START_TIMEOUT,
    STOP_TIMEOUT,
    is_held,
    is_still_at,
    try_lock,
    unlock,
    wait_for_lock,
)
from bkt_pipeline.embedded.probe import is_ready, knock
from bkt_pipeline.embedded.refusal import cannot_run
from bkt_pipeline.embedded.sockets import PORT, delete_stale_sockets, open_socket_folder, socket_folder

# Faster for nightly batches on one machine, and as safe as the defaults after kill -9 or a power loss.
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
    # More verbose messages quote rows, which contain students' answers.
    "log_error_verbosity=terse",
    "timezone=UTC",
    "log_timezone=UTC",
)


def _supervise(folder: Path, linger: float, options: Sequence[str]) -> None:
    """Start the server, or adopt one whose supervisor was killed; print "ready"; stop the server when it is unused."""
    # Held until this process ends. The pid in it is only for humans to read.
    supervising = wait_for_lock(folder / "supervisor.lock", fcntl.LOCK_EX)
    os.pwrite(supervising, f"{os.getpid():<10}\n".encode(), 0)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)

    sockets = socket_folder(folder)
    server: subprocess.Popen[bytes] | None = None
    log_start = 0
    deadline = time.monotonic() + START_TIMEOUT
    while not is_ready(knock(sockets)):
        if server is not None:
            if server.poll() is not None:
                with (folder / "server.log").open(errors="replace") as log:
                    log.seek(log_start)
                    raise cannot_run(
                        f"The embedded Postgres of {folder} stopped while starting "
                        f"(exit code {server.returncode}):\n{tail(log.read())}"
                    )
        elif (lock := try_lock(folder / "server.lock", fcntl.LOCK_EX)) is not None:
            server, log_start = _start_server(folder, sockets, lock, options)
            # Not unlocked: from here on the lock belongs to the server.
            os.close(lock)
        elif time.monotonic() > deadline:
            raise cannot_run(
                f"A server of {folder} is alive but has not answered for {START_TIMEOUT:.0f} s: end the "
                f"postgres processes that use {folder / 'pgdata'}."
            )
        time.sleep(0.02)

    print("ready", end="", flush=True)
    # The client reads until our ends of the pipes are closed.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    _watch(folder, sockets, server, supervising, linger, stopping)


def _start_server(
    folder: Path, sockets: Path, lock: int, options: Sequence[str]
) -> tuple[subprocess.Popen[bytes], int]:
    """Start the server, which inherits `lock` (on server.lock); returns it and where its log begins."""
    account = account_for(folder)
    binaries = usable_binaries(folder, account)
    initialise(folder, binaries, account, sync="fsync=off" not in options)
    # We hold server.lock, so no server of this folder is alive, and these files are from a killed one. After a container
    # restart, another process may have the pid in postmaster.pid, and Postgres would refuse to start.
    (folder / "pgdata" / "postmaster.pid").unlink(missing_ok=True)
    opened = open_socket_folder(sockets, account)
    try:
        delete_stale_sockets(opened)
    finally:
        os.close(opened)
    log = folder / "server.log"
    if log.exists() and log.stat().st_size > 5_000_000:
        log.replace(folder / "server.log.1")
    log.touch(mode=0o600)
    with log.open("ab") as output:
        log_start = output.seek(0, os.SEEK_END)
        settings = (
            f"unix_socket_directories={sockets}",
            f"port={PORT}",
            *write_login_rules(folder, server_user(folder)),
            *_SETTINGS,
            *options,
        )
        server = subprocess.Popen(
            [binaries / "postgres", "-D", folder / "pgdata", *(part for s in settings for part in ("-c", s))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(lock,),
            env=ENVIRONMENT,
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
    """Return when the server has stopped: by itself, by SIGTERM to us, or after `linger` seconds without use."""

    def is_alive() -> bool:
        # Polling reaps the server if it is our child; its backends hold the lock a little longer.
        return (server is not None and server.poll() is None) or is_held(folder / "server.lock")

    def stop() -> None:
        for how, mode in ((signal.SIGINT, "fast"), (signal.SIGQUIT, "immediate")):
            if server is not None:
                server.send_signal(how)
            elif is_ready(knock(sockets)):
                _stop_adopted(folder, mode)
            deadline = time.monotonic() + STOP_TIMEOUT
            while is_alive() and time.monotonic() < deadline:
                time.sleep(0.02)
            if not is_alive():
                break
        if sockets.parent != folder:
            # It is outside the folder, so deleting the folder would leave it behind.
            with contextlib.suppress(OSError):
                sockets.rmdir()

    unused_since: float | None = None
    while is_still_at(folder / "supervisor.lock", supervising) and is_alive():
        # The lock is held while stopping, so that a new client waits for that and then starts its own server.
        unused = try_lock(folder / "users.lock", fcntl.LOCK_EX)
        if unused is None:
            unused_since = None
        elif unused_since is None:
            unused_since = time.monotonic()
        if stopping or (unused_since is not None and time.monotonic() - unused_since >= linger):
            return stop()
        if unused is not None:
            unlock(unused)
        time.sleep(0.1)
    if server is not None and server.poll() is None:
        # The folder was deleted, so no client can reach the server and it has nothing to save.
        server.send_signal(signal.SIGQUIT)
        server.wait()


def _stop_adopted(folder: Path, mode: str) -> None:
    """Stop a server that is not our child.

    Its pid is in a file that the server's account can write, so a process of that account sends the signal. It can then
    only reach processes that the account could signal anyway.
    """
    account = account_for(folder)
    program = usable_binaries(folder, account) / "pg_ctl"
    run([program, "stop", "--no-wait", f"--mode={mode}", "--pgdata", folder / "pgdata"], account)


def _main() -> None:
    # The first process ends immediately, so that no process has to wait for the supervisor.
    if os.fork():
        os._exit(0)
    folder, linger, *options = sys.argv[1:]
    try:
        _supervise(Path(folder), float(linger), options)
    except EmbeddedPostgresError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(str(cannot_run(f"The embedded Postgres of {folder} did not start: {error}.")))


if __name__ == "__main__":
    _main()
