"""What a run is given: the database and the settings. What it stores through is in io_managers.py."""

import datetime as dt
import threading
from typing import Literal

import dagster as dg
from pydantic import Field, PrivateAttr, field_validator

from bkt_pipeline.calibration import Rules
from bkt_pipeline.db.database import Database, open_database
from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.runs import note_process

NIGHT_TAG = "bkt/night"
AS_OF_TAG = "bkt/as_of"
COMMAND_TAG = "bkt/command"  # on the runs of `bkt-pipeline nightly`, which runs the whole night by itself


def night_tags(as_of: dt.datetime) -> dict[str, str]:
    """The tags that every run of a night bears."""
    moment = as_of.astimezone(dt.UTC)
    return {NIGHT_TAG: moment.date().isoformat(), AS_OF_TAG: moment.isoformat()}


class PlatformDatabase(dg.ConfigurableResource):
    """The platform's database at DATABASE_URL, or the embedded one; opened when it is first needed."""

    _database: Database | None = PrivateAttr(default=None)
    _opening: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def get(self) -> Database:
        """The database, opened, migrated and reflected once a process."""
        with self._opening:
            if self._database is None:
                self._database = open_database()
            return self._database

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Note which process the run is in."""
        note_process(context)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Let go of the connections when the run ends."""
        with self._opening:
            if self._database is not None:
                self._database.close()


class CalibrationSettings(dg.ConfigurableResource):
    """What a run calibrates on; the defaults are the contract's."""

    as_of: str | None = Field(
        default=None,
        description="End of the window, ISO 8601, UTC where it names no zone. Default: the schedule's tick, or now.",
    )
    window_days: int = Field(default=30, ge=1, le=3650, description="Length of the window in days.")
    min_attempts: int = Field(
        default=50, ge=1, description="A skill with fewer graded attempts in the window is skipped."
    )

    polish: bool = Field(
        default=False,
        description="Climb on from the grid's best point to the continuous optimum, kept beside it by night.",
    )
    estimator: Literal["grid", "polished"] = Field(
        default="grid",
        description="What skill_bkt_params gets: the grid's best point, or the continuous optimum (which polishes).",
    )

    @field_validator("as_of")
    @classmethod
    def _is_a_moment(cls, value: str | None) -> str | None:
        if value is not None:
            parse_moment(value)
        return value

    @property
    def rules(self) -> Rules:
        """What of it the calibration needs to know."""
        return Rules(min_attempts=self.min_attempts, polish=self.polish, estimator=self.estimator)

    def as_of_of(self, record: dg.RunRecord) -> dt.datetime:
        """The run's as_of: what its config says, else what its night is."""
        return parse_moment(self.as_of) if self.as_of else night_of(record)


def night_of(record: dg.RunRecord) -> dt.datetime:
    """The as_of that the run's tag says, else when the run was created."""
    said = record.dagster_run.tags.get(AS_OF_TAG)
    return parse_moment(said) if said else record.create_timestamp.astimezone(dt.UTC)


def parse_moment(value: str) -> dt.datetime:
    """An ISO 8601 date or time as an aware UTC datetime; UTC where it names no zone.

    Raises
    ------
    InvalidSettings
        It is no such thing.
    """
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        raise InvalidSettings(
            f"as_of {value!r} is no ISO 8601 time; say it like 2026-01-31 or 2026-01-31T07:00:00Z"
        ) from None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
