"""The home: the folder for everything that must outlive a command, including the name of the last platform."""

import contextlib
import os
import sys
from pathlib import Path

from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.settings import settings

PLATFORM_DATABASE = "bkt"  # its database with the synthetic school, or with what `load` put there
_PLATFORM = "platform"


def home() -> Path:
    """The folder for the embedded server's data and Dagster's files.

    This is `BKT_PIPELINE_HOME` if it is set, otherwise `/var/lib/bkt-pipeline` for root and the user's data folder for
    everyone else. Nothing is created. Raises InvalidSettings if the user has no home folder.
    """
    configured = settings()
    try:
        if configured.pipeline_home:
            return configured.pipeline_home.expanduser().absolute()
        if sys.platform != "win32" and os.geteuid() == 0:
            return Path("/var/lib/bkt-pipeline")
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Application Support" / "bkt-pipeline"
        data_home = configured.xdg_data_home
        if data_home is None or not data_home.is_absolute():
            data_home = Path.home() / ".local" / "share"
        return data_home / "bkt-pipeline"
    except RuntimeError as error:
        raise InvalidSettings(
            "No home folder is known for this user: set BKT_PIPELINE_HOME to a folder to keep data in."
        ) from error


def configured_platform() -> str | None:
    """The platform that a command has used on this machine, as host and database; None before the first."""
    try:
        return (home() / _PLATFORM).read_text().strip() or "of an unknown name"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        # The file exists but cannot be read.
        return "of an unknown name"


def note_platform(name: str) -> None:
    """Remember that this platform was used. If the home is not writable, the command continues without this."""
    with contextlib.suppress(OSError, InvalidSettings):
        folder = home()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _PLATFORM).write_text(f"{name}\n")
