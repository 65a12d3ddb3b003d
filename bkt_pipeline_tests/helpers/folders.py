"""Folders that servers work in."""

import shutil
import time
from pathlib import Path


def delete(folder: Path) -> None:
    """Delete a folder in which a server may still be creating and removing files."""
    deadline = time.monotonic() + 60
    while folder.exists():
        assert time.monotonic() < deadline, f"{folder.name} can't be deleted: something keeps writing to it"
        shutil.rmtree(folder, ignore_errors=True)
