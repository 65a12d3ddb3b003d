"""The home: the folder of everything that outlives a command."""

import os
import sys
from pathlib import Path

from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.settings import settings


def home() -> Path:
    """The folder of the embedded server's data and of Dagster's files.

    `BKT_PIPELINE_HOME` where it is set; else `/var/lib/bkt-pipeline` for root and the user's data folder
    for everyone else. Nothing is created here. Raises InvalidSettings where the user has no home folder.
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
