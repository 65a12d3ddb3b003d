"""The component `bkt_pipeline.BktCalibration`: an installation that a project declares in a defs.yaml."""

from typing import Annotated, Any

import dagster as dg

from bkt_pipeline.defs.assembly import build_definitions
from bkt_pipeline.settings import DATABASE_URL


def _described(meaning: str, *examples: Any) -> dg.Resolver:
    """What `dg` and an editor show of an attribute."""
    resolver: dg.Resolver = dg.Resolver.default(description=meaning, examples=list(examples))
    return resolver


class BktCalibration(dg.Component, dg.Model, dg.Resolvable):
    """Recalibrates the BKT parameters of a learning platform's skills every night.

    What is left out is taken from the environment, or is the default. A code location may have several of these, each with
    a `key_prefix` and a `database_url_variable` of its own.
    """

    partitions_name: Annotated[
        str | None,
        _described(
            "The name of the partitions in Dagster, one for each skill. Default: BKT_PARTITIONS after the key prefix.",
            "school_a_skill",
        ),
    ] = None
    key_prefix: Annotated[
        str | list[str] | None,
        _described(
            "Goes before the keys of the assets, and before the names of the jobs, sensors, schedule, resources and "
            "partitions.",
            "school_a",
        ),
    ] = None
    group_name: Annotated[
        str | None,
        _described("The group of all assets. Default: platform, calibration and items.", "bkt"),
    ] = None
    cron: Annotated[
        str | None, _described("When the night starts, in UTC. Default: 0 7 * * *", "0 3 * * *")
    ] = None
    database_url_variable: Annotated[
        str,
        _described(
            "The environment variable with the URL of the platform's database. Each platform needs a database of its own.",
            "SCHOOL_A_DATABASE_URL",
        ),
    ] = DATABASE_URL
    source_schema: Annotated[
        str | None,
        _described(
            "The schema in which skills, items and attempts are read. Default: BKT_SOURCE_SCHEMA.",
            "calibration",
        ),
    ] = None
    estimator: Annotated[
        str | None,
        _described("The estimates to publish: grid, polished or pooled. Default: BKT_ESTIMATOR.", "pooled"),
    ] = None
    sequences: Annotated[
        str | None,
        _described(
            "Which answers are used: those in the window, or from_first_answer on. Default: BKT_SEQUENCES.",
            "window",
        ),
    ] = None
    window_days: Annotated[
        int | None, _described("The length of the window in days. Default: BKT_WINDOW_DAYS.", 30)
    ] = None
    min_attempts: Annotated[
        int | None,
        _described(
            "A skill with fewer graded attempts in the window is skipped. Default: BKT_MIN_ATTEMPTS.", 50
        ),
    ] = None
    items: Annotated[
        dict[str, Any] | None,
        _described(
            "Settings of the item calibration, named as in the launchpad.",
            {"window_days": 90, "update_items": False},
        ),
    ] = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The installation's definitions. Chosen assets run in the executor of the project."""
        return build_definitions(**self.model_dump(), executor=None)
