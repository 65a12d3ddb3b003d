"""The private folder of the server's socket, which may be below a folder that every user can write to.

A path alone is therefore not trusted. The folder is created as private, or opened and checked, and then used through
its descriptor. Once it belongs to the right user, no one else can replace it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from pathlib import Path

from bkt_pipeline.embedded.folders import server_user
from bkt_pipeline.embedded.refusal import cannot_run
from bkt_pipeline.errors import EmbeddedPostgresError

PORT = 5432  # part of the socket's name only: the server listens on no TCP port

_SAFE_PATH = re.compile(r"[A-Za-z0-9._/-]{1,80}")


def socket_folder(folder: Path) -> Path:
    """The folder of the server's socket.

    This is `folder/run`. If that path is too long for a socket (about 100 bytes) or has a character that libpq or
    Postgres reads as a separator, it is a folder below /run for root and below /tmp for other users.
    """
    path = folder / "run"
    if _SAFE_PATH.fullmatch(str(path)):
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    below = Path("/run") if os.geteuid() == 0 and Path("/run").is_dir() else Path("/tmp")
    return below / f"bkt-pipeline-{server_user(folder)}-{name}"


def check_socket_folder(path: Path, user: int) -> None:
    """Raise EmbeddedPostgresError if `path` exists but is not a private folder of the server's `user`."""
    with contextlib.suppress(FileNotFoundError):
        _check(path.lstat(), path, user)


def open_socket_folder(path: Path, account: tuple[int, int] | None) -> int:
    """Create the folder unless it exists, give it to the server's account, and return a descriptor for it."""
    user = os.geteuid() if account is None else account[0]
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    try:
        opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise _not_private(path, user) from None
    try:
        _check(os.fstat(opened), path, user)
        if account is not None:
            os.fchown(opened, *account)
    except (OSError, EmbeddedPostgresError):
        os.close(opened)
        raise
    return opened


def delete_stale_sockets(opened: int) -> None:
    """Delete the sockets that a killed server left in the open folder."""
    for name in os.listdir(opened):
        if name.startswith(".s.PGSQL."):
            os.unlink(name, dir_fd=opened)


def _check(found: os.stat_result, path: Path, user: int) -> None:
    # If root owns the folder, root has just created it and will give it to the server's account.
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid not in (user, os.geteuid())
        or stat.S_IMODE(found.st_mode) & 0o077
    ):
        raise _not_private(path, user)


def _not_private(path: Path, user: int) -> EmbeddedPostgresError:
    return cannot_run(
        f"{path} should be a private folder of user {user} for the server's socket, but it is not: "
        "remove it, or set BKT_PIPELINE_HOME to another folder."
    )
