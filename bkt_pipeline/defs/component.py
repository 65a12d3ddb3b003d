"""The component `bkt_pipeline.BktCalibration`: an installation that a project declares in a defs.yaml."""

from typing import Any

import dagster as dg
from pydantic import Field

from bkt_pipeline.defs.assembly import build_definitions
from bkt_pipeline.settings import DATABASE_URL


class BktCalibration(dg.Component, dg.Model, dg.Resolvable):
    """Recalibrates the BKT parameters of a learning platform's skills every night.

    What is left out is taken from the environment, or is the default. A code location may have several of these, each with
    a `key_prefix` and a `database_url_variable` of its own.
    """

    partitions_name: str | None = Field(
        default=None,
        description="The name of the partitions in Dagster, one for each skill; no other code location may use it.",
        examples=["school_a_skill"],
    )
    key_prefix: str | list[str] | None = Field(
        default=None,
        description="Goes before the keys of the assets, and before the names of the jobs, sensors, schedule, resources and "
        "partitions.",
        examples=["school_a"],
    )
    group_name: str | None = Field(default=None, description="The group of all assets.", examples=["bkt"])
    cron: str | None = Field(
        default=None, description="When the night starts, in UTC.", examples=["0 7 * * *"]
    )
    database_url_variable: str = Field(
        default=DATABASE_URL,
        description="The environment variable with the URL of the platform's database. Each platform needs a database of its "
        "own.",
        examples=["SCHOOL_A_DATABASE_URL"],
    )
    source_schema: str | None = Field(
        default=None,
        description="The schema in which skills, items and attempts are read.",
        examples=["calibration"],
    )
    estimator: str | None = Field(
        default=None,
        description="The estimates to publish: grid, polished or pooled.",
        examples=["pooled"],
    )
    sequences: str | None = Field(
        default=None,
        description="Which answers are used: those in the window, or from_first_answer on.",
        examples=["window"],
    )
    window_days: int | None = Field(
        default=None, description="The length of the window in days.", examples=[30]
    )
    min_attempts: int | None = Field(
        default=None,
        description="A skill with fewer graded attempts in the window is skipped.",
        examples=[50],
    )
    items: dict[str, Any] = Field(
        default={},
        description="Settings of the item calibration, named as in the launchpad.",
        examples=[{"window_days": 90, "update_items": False}],
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The installation's definitions. Chosen assets run in the executor of the project."""
        return build_definitions(**self.model_dump(), executor=None)
