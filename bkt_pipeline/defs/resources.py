"""The resources of a run: the database and the settings."""

import datetime as dt
import threading
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, Literal, TypeVar, cast

import dagster as dg
from pydantic import Field, PrivateAttr, field_validator

from bkt_pipeline.calibration.items import ItemOptions
from bkt_pipeline.calibration.skills import SkillOptions, require_estimates
from bkt_pipeline.db.clock import refuse_later
from bkt_pipeline.db.database import Database, open_database
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.private import note_origin
from bkt_pipeline.defs.tags import COMMAND_TAG, DATABASE_TAG, REHEARSAL_TAG, night_of, parse_moment
from bkt_pipeline.instance.runs import note_process
from bkt_pipeline.model.bkt.fit import Estimator
from bkt_pipeline.model.irt.items import ItemModel
from bkt_pipeline.model.irt.two_pl import CALIBRATED_ANSWERS, MIN_ANSWERS
from bkt_pipeline.settings import DATABASE_URL, Settings, database_url, settings

T = TypeVar("T")


# Enumerations, because the launchpad refuses a value that is not in one before it starts a run.
EstimatorName = StrEnum("EstimatorName", ["grid", "polished", "pooled"])
SequencesName = StrEnum("SequencesName", ["window", "from_first_answer"])
ItemModelName = StrEnum("ItemModelName", ["2pl", "offset"])
ThetaSource = StrEnum("ThetaSource", ["replay", "mastery"])


def _described(name: str, meaning: str) -> str:
    """The description of a setting that can also be set in the environment."""
    field = Settings.model_fields[name]
    return f"{meaning} Default: {field.validation_alias}, or {field.default}."


def _given(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value


class PlatformDatabase(dg.ConfigurableResource[Any]):
    """The platform's database at DATABASE_URL, or the embedded one; opened on first use."""

    url_variable: ClassVar[str] = DATABASE_URL
    source_schema: ClassVar[str | None] = None
    run_tags: ClassVar[Mapping[str, str]] = {}

    _database: Database | None = PrivateAttr(default=None)
    _opening: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def get(self) -> Database:
        """The database, opened, migrated and reflected once per process."""
        with self._opening:
            if self._database is None:
                self._database = open_database(self.url_variable, self.source_schema)
            return self._database

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Tag the run with its installation, its process and the kind of database that it uses; show it under its job."""
        run = context.instance.get_run_by_id(context.run.run_id) if context.instance and context.run else None
        if context.instance and run and COMMAND_TAG in run.tags:
            note_origin(context.instance, run)
        embedded = self.url_variable == DATABASE_URL and bool(settings().demo)
        kind = "platform" if database_url(self.url_variable) else "embedded" if embedded else "none"
        note_process(context, {**self.run_tags, DATABASE_TAG: kind})
        if kind == "embedded" and context.log:
            context.log.info("DATABASE_URL is not set: this run uses the embedded Postgres")

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close the connections when the run ends."""
        with self._opening:
            if self._database is not None:
                self._database.close()


def platform_database(
    installation: Installation, variable: str = DATABASE_URL, schema: str | None = None
) -> PlatformDatabase:
    """The database of an installation, whose URL is in the variable and whose tables are in the schema."""

    class InstallationDatabase(PlatformDatabase):
        url_variable: ClassVar[str] = variable
        source_schema: ClassVar[str | None] = schema
        run_tags: ClassVar[Mapping[str, str]] = installation.tags

    return InstallationDatabase()


def shared(database: Database) -> PlatformDatabase:
    """A resource that gives all runs of this process one database, which stays open: its owner closes it."""

    class SharedDatabase(PlatformDatabase):
        def get(self) -> Database:
            return database

    return SharedDatabase()


class CalibrationSettings(dg.ConfigurableResource[Any]):
    """Settings of a calibration run.

    An empty setting is taken from the environment, or is the default: see `settings.py`.
    """

    as_of: str = Field(
        default="",
        description="End of the window, ISO 8601, UTC if it has no time zone. Empty: the schedule's tick, or now.",
    )
    window_days: int | None = Field(
        default=None, ge=1, le=3650, description=_described("window_days", "Length of the window in days.")
    )
    min_attempts: int | None = Field(
        default=None,
        ge=0,
        description=_described(
            "min_attempts",
            "A skill with fewer graded attempts in the window is skipped; 0 needs estimator pooled.",
        ),
    )
    estimator: EstimatorName | None = Field(
        default=None,
        description=_described(
            "estimator",
            "Which estimates are published in skill_bkt_params: the best grid point, the polished continuous optimum, or "
            "the pooled estimate, which borrows from the school's other skills. Every night computes all three.",
        ),
    )
    sequences: SequencesName | None = Field(
        default=None,
        description=_described(
            "sequences",
            "Which answers are used. window: those in the window; from_first_answer: all answers, from their first, of "
            "the students who answered in the window.",
        ),
    )

    publish: bool = Field(
        default=True,
        description="False: a rehearsal, which stores its fits apart and publishes nothing; see bkt-pipeline compare.",
    )

    @field_validator("as_of")
    @classmethod
    def _has_passed(cls, value: str) -> str:
        # Each run asks the database's clock too, which the launchpad cannot.
        if value:
            refuse_later(parse_moment(value), dt.datetime.now(dt.UTC), "this machine's clock")
        return value

    @property
    def options(self) -> SkillOptions:
        """The options of the calibration.

        Raises
        ------
        InvalidSettings
            The options contradict each other.
        """
        environment = settings()
        options = SkillOptions(
            window_days=_given(self.window_days, environment.window_days),
            min_attempts=_given(self.min_attempts, environment.min_attempts),
            estimator=cast(Estimator, str(_given(self.estimator, environment.estimator))),
            sequences=str(_given(self.sequences, environment.sequences)),
            publish=self.publish,
        )
        require_estimates(options.min_attempts, options.estimator)
        return options

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Tag the run with the settings that it uses."""
        if context.run is not None and context.instance is not None:
            context.instance.add_run_tags(context.run.run_id, settings_tags(self.options))

    def resolve_as_of(self, record: dg.RunRecord) -> dt.datetime:
        """The run's as_of: from its config, or that of its night."""
        return parse_moment(self.as_of) if self.as_of else night_of(record)


def settings_tags(options: SkillOptions) -> dict[str, str]:
    """The tags that record the settings of a run."""
    tags = {
        f"bkt/{name}": str(getattr(options, name))
        for name in ("estimator", "sequences", "window_days", "min_attempts")
    }
    return tags if options.publish else tags | {REHEARSAL_TAG: "true"}


class ItemSettings(dg.ConfigurableResource[Any]):
    """Settings of an item calibration run."""

    window_days: int | None = Field(
        default=None,
        ge=1,
        le=3650,
        description=_described("item_window_days", "Length of the items' window in days."),
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
    theta_from: ThetaSource | None = Field(
        default=None,
        description="Source of a student's ability. replay: P(known) just before each attempt; mastery: the platform's "
        "table student_skill_mastery. Default: BKT_THETA_FROM, or replay.",
    )
    item_model: ItemModelName | None = Field(
        default=None,
        description=_described(
            "item_model",
            "Which model the platform's items.irt_a and irt_b come from: the two-parameter logistic model, 2pl, or the "
            "offset from what the skill's parameters predict. Every night fits both.",
        ),
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
            window_days=_given(self.window_days, settings().item_window_days),
            theta_from="mastery" if theta_from == "mastery" else "replay",
            item_model=cast(ItemModel, str(_given(self.item_model, settings().item_model))),
            method=self.method,
            min_answers=self.min_answers,
            calibrated_answers=self.calibrated_answers,
        )

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Tag the run with the item model that it uses."""
        if context.run is not None and context.instance is not None:
            context.instance.add_run_tags(context.run.run_id, {"bkt/item_model": self.options.item_model})

    def may_update_items(self) -> bool:
        """Whether the platform's own item columns may be updated."""
        if self.update_items is not None:
            return self.update_items
        return settings().update_items
