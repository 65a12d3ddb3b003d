"""The server's data folder, and who may log in to it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

if sys.platform != "win32":
    import pwd

from bkt_pipeline.embedded.binaries import check_entry, run, tail
from bkt_pipeline.embedded.folders import user_name
from bkt_pipeline.embedded.refusal import cannot_run


def initialise(folder: Path, binaries: Path, account: tuple[int, int] | None, *, sync: bool) -> None:
    """Create `folder/pgdata` unless it exists; a killed attempt leaves only an `unfinished-*` folder."""
    for unfinished in folder.glob("unfinished-*"):
        shutil.rmtree(unfinished)
    data = folder / "pgdata"
    if data.exists():
        return
    if account is None:
        user_name(os.geteuid())
    else:
        check_entry(folder, account)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder))
    try:
        if account is not None:
            os.chown(unfinished, *account)
        result = run(
            [
                *(binaries / "initdb", "--pgdata", unfinished, "--username=postgres", "--auth=peer"),
                *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-locale"),
                *("--no-instructions", "--set=dynamic_shared_memory_type=mmap"),
                *(() if sync else ("--no-sync",)),
            ],
            account,
        )
        if result.returncode != 0:
            raise cannot_run(f"Postgres could not make its data folder in {folder}:\n{tail(result.stderr)}")
        unfinished.rename(data)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_login_rules(folder: Path, server_user: int) -> tuple[str, str]:
    """Let root, the folder's owner and the server's own user log in; returns the settings for the server.

    The kernel reports which user connects. The rules are beside the data folder, where only the folder's owner can
    write, and apply to every data folder, regardless of how it was created.
    """
    users = {0, folder.stat().st_uid, os.geteuid(), server_user}
    rules = {
        "hba_file": (folder / "pg_hba.conf", "local all all peer map=users\n"),
        "ident_file": (
            folder / "pg_ident.conf",
            "".join(f"users {_quoted(name)} all\n" for name in _names(users)),
        ),
    }
    for path, text in rules.values():
        new = path.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o644)
        new.replace(path)
    hba, ident = (f"{setting}={path}" for setting, (path, _) in rules.items())
    return hba, ident


def _names(users: Collection[int]) -> list[str]:
    names = []
    for user in sorted(users):
        try:
            names.append(pwd.getpwuid(user).pw_name)
        except KeyError:
            continue
    return names


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))
