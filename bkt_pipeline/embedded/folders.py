"""Where the embedded server's files are, and which account owns them."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import pwd

from bkt_pipeline.embedded.refusal import cannot_run

_ACCOUNTS = ("postgres", "_postgres", "nobody")


def server_folder(root: Path) -> Path:
    """The server's own folder below `root`, created if missing; all processes get the same path for it."""
    folder = Path(os.path.realpath(root)) / "postgres"
    # Root's server runs as another account, which must reach its data. Existing folders never get more permissions.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    for missing in [path for path in (folder, *folder.parents) if not path.exists()][::-1]:
        with contextlib.suppress(FileExistsError):
            missing.mkdir()
            missing.chmod(mode)
    return folder


def account_for(folder: Path) -> tuple[int, int] | None:
    """User and group id to run the server as, because Postgres refuses to run as root; None means our own."""
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
    raise cannot_run(
        "Postgres refuses to run as root, and this system has no account 'postgres' or 'nobody' to run it as."
    )


def user_name(user: int) -> str:
    """The user's name. Without one, Postgres cannot create a data folder and the user cannot log in."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        raise cannot_run(
            f"Postgres cannot run as user {user}, which has no entry in the system's list of users "
            "(/etc/passwd): run as a user that has one."
        ) from None


def server_user(folder: Path) -> int:
    """The user id that the server runs as."""
    account = account_for(folder)
    return os.geteuid() if account is None else account[0]
