"""The resources of a run: the database and the settings."""

import datetime as dt
import threading
from typing import Any, Literal

import dagster as dg
from pydantic import Field, PrivateAttr, field_validator

from bkt_pipeline.calibration.items import WINDOW_DAYS as ITEM_WINDOW_DAYS
from bkt_pipeline.calibration.items import ItemOptions
from bkt_pipeline.calibration.skills import MIN_ATTEMPTS, WINDOW_DAYS, SkillOptions
from bkt_pipeline.db.database import Database, open_database
from bkt_pipeline.defs.tags import night_of, parse_moment
from bkt_pipeline.instance.runs import note_process
from bkt_pipeline.model.irt.two_pl import CALIBRATED_ANSWERS, MIN_ANSWERS
from bkt_pipeline.settings import settings


class PlatformDatabase(dg.ConfigurableResource[Any]):
    """The platform's database at DATABASE_URL, or the embedded one; opened on first use."""

    _database: Database | None = PrivateAttr(default=None)
    _opening: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def get(self) -> Database:
        """The database, opened, migrated and reflected once per process."""
        with self._opening:
            if self._database is None:
                self._database = open_database()
            return self._database

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Record which process executes the run."""
        note_process(context)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close the connections when the run ends."""
        with self._opening:
            if self._database is not None:
                self._database.close()


def shared(database: Database) -> PlatformDatabase:
    """A resource that gives all runs of this process one database, which stays open: its owner closes it."""

    class SharedDatabase(PlatformDatabase):
        def get(self) -> Database:
            return database

    return SharedDatabase()


class CalibrationSettings(dg.ConfigurableResource[Any]):
    """Settings of a calibration run."""

    as_of: str = Field(
        default="",
        description="End of the window, ISO 8601, UTC if it has no time zone. Empty: the schedule's tick, or now.",
    )
    window_days: int = Field(default=WINDOW_DAYS, ge=1, le=3650, description="Length of the window in days.")
    min_attempts: int = Field(
        default=MIN_ATTEMPTS, ge=1, description="A skill with fewer graded attempts in the window is skipped."
    )

    polish: bool = Field(
        default=False,
        description="Continue from the best grid point to the continuous optimum, and store both for each night.",
    )
    estimator: Literal["grid", "polished"] = Field(
        default="grid",
        description="Which parameters are written to skill_bkt_params: the best grid point, or the continuous optimum "
        "(implies polish).",
    )

    @field_validator("as_of")
    @classmethod
    def _is_a_moment(cls, value: str) -> str:
        if value:
            parse_moment(value)
        return value

    @property
    def options(self) -> SkillOptions:
        """The options of the calibration."""
        return SkillOptions(
            window_days=self.window_days,
            min_attempts=self.min_attempts,
            polish=self.polish,
            estimator=self.estimator,
        )

    def resolve_as_of(self, record: dg.RunRecord) -> dt.datetime:
        """The run's as_of: from its config, or that of its night."""
        return parse_moment(self.as_of) if self.as_of else night_of(record)


class ItemSettings(dg.ConfigurableResource[Any]):
    """Settings of an item calibration run."""

    window_days: int = Field(
        default=ITEM_WINDOW_DAYS, ge=1, le=3650, description="Length of the items' window in days."
    )
    min_answers: int = Field(
        default=MIN_ANSWERS, ge=1, description="An item with fewer graded answers is skipped."
    )
    calibrated_answers: int = Field(
        default=CALIBRATED_ANSWERS, ge=1, description="An item with fewer graded answers is provisional."
    )
    method: Literal["map", "ml"] = Field(
        default="map", description="Maximum a posteriori with weak priors, or maximum likelihood."
    )
    theta_from: str | None = Field(
        default=None,
        pattern="^(replay|mastery)$",
        description="Source of a student's ability. replay: P(known) just before each attempt; mastery: the platform's "
        "table student_skill_mastery. Default: BKT_THETA_FROM, or replay.",
    )
    update_items: bool | None = Field(
        default=None,
        description="Whether to update the platform's columns items.irt_a, irt_b and irt_calibrated_at, if they exist. "
        "Default: BKT_UPDATE_ITEMS (yes or no), or yes.",
    )

    @property
    def options(self) -> ItemOptions:
        """The options of the calibration."""
        theta_from = self.theta_from or settings().theta_from
        return ItemOptions(
            window_days=self.window_days,
            theta_from="mastery" if theta_from == "mastery" else "replay",
            method=self.method,
            min_answers=self.min_answers,
            calibrated_answers=self.calibrated_answers,
        )

    def may_update_items(self) -> bool:
        """Whether the platform's own item columns may be updated."""
        if self.update_items is not None:
            return self.update_items
        return settings().update_items
