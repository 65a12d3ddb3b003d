"""Where the windows are kept: in Postgres, or on S3 where ATTEMPT_WINDOW_STORE says so.

A store keeps each skill's last window, whole. The newest as_of wins: an older window never replaces a
newer one, and of two runs as of the same moment the later one stands.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from bkt_pipeline.db.database import Database
from bkt_pipeline.errors import WindowStoreUnavailable
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.settings import settings

if TYPE_CHECKING:
    from bkt_pipeline.windows.s3 import S3Windows

from bkt_pipeline.windows.postgres import PostgresWindows

NEEDED_PACKAGES = ("boto3", "botocore", "pyarrow")


class WindowStore(Protocol):
    """Keeps the last window of each skill.

    What stands in the way of every window is raised, as `DatabaseUnavailable` or `WindowStoreUnavailable`; what
    stands in the way of one is told, and costs the others nothing.
    """

    @property
    def where(self) -> str:
        """Its place, as a person may read it."""

    def store(self, windows: Mapping[str, AttemptWindow], run_id: str) -> Iterator[tuple[str, Exception]]:
        """Store the windows; yields each that could not be stored, and why."""

    def load(self, keys: Sequence[str]) -> dict[str, AttemptWindow | Exception]:
        """The stored window of each skill, or why it cannot be read; one that was never stored is not in the result."""


def window_store(database: Database) -> WindowStore:
    """The store that ATTEMPT_WINDOW_STORE names, or Postgres where it is not set."""
    return s3_windows() or PostgresWindows(database)


def s3_windows() -> "S3Windows | None":
    """The store on S3, where ATTEMPT_WINDOW_STORE names one.

    Raises
    ------
    InvalidSettings
        It is set to something else than s3://bucket/prefix.
    WindowStoreUnavailable
        The packages for it are not installed.
    """
    configured = settings().attempt_window_store
    if not configured:
        return None
    try:
        from bkt_pipeline.windows.s3 import S3Windows, place_of
    except ModuleNotFoundError as error:
        if error.name not in NEEDED_PACKAGES:
            raise
        raise WindowStoreUnavailable(
            f"ATTEMPT_WINDOW_STORE is set, but the package {error.name} is missing; pip install 'bkt_pipeline[aws]'"
        ) from None
    return S3Windows(*place_of(configured))
