"""The contract of a window store, and the choice of one: Postgres, or S3 if ATTEMPT_WINDOW_STORE is set.

What belongs to a window
    A window is identified by everything that determined it: `as_of`, `window_days`, `sequences` and the run that
    stored it. `load` returns the run with the window, so that a run can refuse a window that another run stored
    with different settings.

Which window a store keeps
    One complete window per skill. The newest `as_of` wins; if two windows have the same `as_of`, the one stored last
    wins. A window whose `as_of` is in the future by the store's own clock comes from a wrong clock or a typing error,
    so any window replaces it.

What a stored window decides
    Nothing about a calibration. A run calibrates from the windows that it read itself, and only newer *published*
    parameters overtake it. So `store` reports a window that it did not keep as `WindowOvertaken`, which is not a
    failure, and a newer window never blocks a night. Stored windows let a run calibrate without reading the attempts
    again, and show what a calibration was based on.
"""

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bkt_pipeline.db.database import Run
from bkt_pipeline.errors import WindowStoreUnavailable, install_extra
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.settings import DATABASE_URL, settings

NEEDED_PACKAGES = ("boto3", "botocore", "pyarrow")


@dataclass(frozen=True, slots=True)
class StoredWindow:
    """A window, and the Dagster run that stored it."""

    window: AttemptWindow
    run_id: str

    def without(self, student_id: str) -> "StoredWindow":
        """The same window without the answers of one student, who must be in it."""
        window = self.window
        place = window.student_ids.index(student_id)
        begin, end = window.offsets[place : place + 2]
        rest = replace(
            window,
            student_ids=(*window.student_ids[:place], *window.student_ids[place + 1 :]),
            responses=np.delete(window.responses, slice(begin, end)),
            answered_at=np.delete(window.answered_at, slice(begin, end)),
            offsets=np.concatenate(
                [window.offsets[: place + 1], window.offsets[place + 2 :] - (end - begin)]
            ),
        )
        return replace(self, window=rest)


class WindowStore(ABC):
    """Keeps the last window of each skill.

    Every method raises `WindowStoreUnavailable` or `DatabaseUnavailable` for a failure that would affect every
    window. A failure of one window never affects the others.
    """

    @property
    @abstractmethod
    def location(self) -> str:
        """Where the windows are, to show to users. It contains no secret."""

    @abstractmethod
    def check_access(self) -> None:
        """Check that windows can be stored and loaded, and leave everything as it is.

        Raises
        ------
        WindowStoreUnavailable
            Windows cannot be stored or loaded; the message says what to change.
        """

    @abstractmethod
    def store(self, windows: Mapping[str, AttemptWindow], run_id: str) -> Iterator[tuple[str, Exception]]:
        """Store the windows; yield each one that is not stored, and why.

        If the process is killed at any moment, each skill has either its old window or its new one, complete.

        Parameters
        ----------
        windows
            The windows by skill.
        run_id
            The Dagster run that read them.

        Yields
        ------
        key, error
            `WindowOvertaken` if a newer window is kept, otherwise the failure. The work is done while the result is
            consumed, so consume all of it.
        """

    @abstractmethod
    def load(self, keys: Sequence[str]) -> dict[str, StoredWindow | Exception]:
        """The stored window of each skill, or why it cannot be read.

        A skill whose window was never stored is not in the result.
        """

    @abstractmethod
    def prune(self, since: dt.date) -> int:
        """Delete the windows whose `as_of` is before this UTC day; return how many."""

    @abstractmethod
    def forget(self, student_id: str) -> int:
        """Delete the answers of one student from every window; return how many windows changed.

        The windows keep their `as_of` and the run that stored them. The next night reads the student again unless
        the platform has deleted the attempts.

        Raises
        ------
        WindowUnusable
            A window cannot be read, so it may still contain the student. All others have been changed.
        """


def window_store(run: Run, url_variable: str = DATABASE_URL) -> WindowStore:
    """The store that ATTEMPT_WINDOW_STORE names; Postgres if it is not set.

    Parameters
    ----------
    run
        Runs work in one transaction of the platform's database, like `Database.run`.
    url_variable
        The variable that names this database. If it is not DATABASE_URL, the process may serve several platforms, whose
        windows must not mix, so each platform's stay in its own database.

    Raises
    ------
    InvalidSettings
        ATTEMPT_WINDOW_STORE is not of the form s3://bucket/prefix.
    WindowStoreUnavailable
        The packages for S3 are not installed.
    """
    url = settings().attempt_window_store
    if not url or url_variable != DATABASE_URL:
        from bkt_pipeline.windows.postgres import PostgresWindows

        return PostgresWindows(run)
    try:
        from bkt_pipeline.windows.s3 import S3Windows, parse_url
    except ModuleNotFoundError as error:
        if error.name not in NEEDED_PACKAGES:
            raise
        raise WindowStoreUnavailable(
            f"ATTEMPT_WINDOW_STORE is set, but the package {error.name} is missing; {install_extra('aws')}"
        ) from None
    return S3Windows(*parse_url(url))
