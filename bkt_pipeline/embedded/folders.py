"""Where the embedded server's files are, and which account owns them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
from pathlib import Path
from urllib.parse import quote, urlencode

from bkt_pipeline.errors import EmbeddedPostgresError

if sys.platform != "win32":
    import pwd


PORT = 5432


"""Names the socket only: the server listens on no TCP port."""


_ACCOUNTS = ("postgres", "_postgres", "nobody")


_SAFE_SOCKET_PATH = re.compile(r"[A-Za-z0-9._/-]{1,80}")


def cannot_run(why: str) -> EmbeddedPostgresError:
    return EmbeddedPostgresError(f"{why}\nTo use a Postgres server of your own, set DATABASE_URL to its URL.")


def server_folder(root: Path) -> Path:
    """The server's own folder below `root`, created; one spelling for all processes."""
    folder = Path(os.path.realpath(root)) / "postgres"
    # Root's server runs as another account, which must get through; folders of others are never opened up.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    for missing in [path for path in (folder, *folder.parents) if not path.exists()][::-1]:
        with contextlib.suppress(FileExistsError):
            missing.mkdir()
            missing.chmod(mode)
    return folder


def account_for(folder: Path) -> tuple[int, int] | None:
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
    raise cannot_run(
        "Postgres refuses to run as root, and this system has no account 'postgres' or 'nobody' to run it as."
    )


def socket_folder(folder: Path) -> Path:
    """Where the server's socket lies; checked to be ours wherever it exists already.

    `folder/run`, or a folder below /tmp where that path is too long for a socket (about 100 bytes) or has
    a character that libpq or Postgres reads as a separator.
    """
    account = account_for(folder)
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
            raise cannot_run(
                f"{path} should be a private folder of user {owner} for the server's socket, but it is not: "
                "remove it, or set BKT_PIPELINE_HOME to another folder."
            )
    return path


def url(sockets: Path, database: str) -> str:
    # Port and options are spelled out so that PGPORT and PGOPTIONS of the caller's shell do not count.
    query = {"host": str(sockets), "port": str(PORT), "options": "-ctimezone=UTC"}
    return f"postgresql://postgres@/{database}?{urlencode(query, quote_via=quote, safe='/')}"
