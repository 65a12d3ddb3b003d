"""The night's two summaries: its skills and its items."""

import datetime as dt
from collections import Counter
from functools import partial

import dagster as dg
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.calibration.night_checks import (
    NIGHT_CHECKS,
    USUAL_NIGHTS,
    parameters_are_fresh,
    verify_night,
)
from bkt_pipeline.db.backend import ages_by_source
from bkt_pipeline.db.database import Database
from bkt_pipeline.db.isolation import unusable_keys
from bkt_pipeline.db.items import item_points
from bkt_pipeline.db.ledger import items_of_night
from bkt_pipeline.db.left_out import count_orphans
from bkt_pipeline.db.names import read_names
from bkt_pipeline.db.nights import attempts_of_earlier_nights, latest_as_of, latest_night_date, read_night
from bkt_pipeline.db.params import parameters_as_of
from bkt_pipeline.db.retry import reason
from bkt_pipeline.defs.assets.items import ITEMS
from bkt_pipeline.defs.assets.skills import CALIBRATION
from bkt_pipeline.defs.checks import as_check_result, check_specs
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.messages import at_the_end
from bkt_pipeline.defs.metadata.items import summary_metadata
from bkt_pipeline.defs.metadata.night import night_metadata
from bkt_pipeline.defs.metadata.night_page import night_page
from bkt_pipeline.defs.metadata.tables import OWNERS, target_table
from bkt_pipeline.defs.night_counts import NOT_DELIVERED, counted_in_windows
from bkt_pipeline.defs.notify.message import NightReport
from bkt_pipeline.defs.red_checks import RED_CHECKS, red_before, red_checks
from bkt_pipeline.defs.registration import skill_keys
from bkt_pipeline.defs.resources import CalibrationSettings, PlatformDatabase
from bkt_pipeline.defs.run import resolve_as_of
from bkt_pipeline.defs.schedules import deadline
from bkt_pipeline.defs.tags import NIGHT_TAG, PART_TAG, night_tags

CURRENT_PARAMS = "current_params"


def summary_assets(installation: Installation) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The installation's two summaries, and the parameters whose freshness they report."""

    def upstream(asset: str) -> dg.AssetDep:
        return dg.AssetDep(installation.key(asset), partition_mapping=dg.AllPartitionMapping())

    kinds = {"postgres"}
    return [
        installation.asset(item_summary, group=ITEMS, deps=[upstream("item_irt_params")], kinds=kinds),
        installation.asset(
            nightly_summary,
            group=CALIBRATION,
            deps=[upstream("skill_bkt_params")],
            check_specs=check_specs(installation, "nightly_summary", NIGHT_CHECKS, partitioned=False),
            kinds=kinds,
        ),
        dg.AssetSpec(
            installation.key(CURRENT_PARAMS),
            deps=[upstream("skill_bkt_params")],
            description="The parameters that the backend reads, of all skills. A night that calibrated a skill materialises "
            "it, and a night that only skipped them does not, so its freshness is that of the parameters.",
            group_name=installation.group_name or CALIBRATION,
            kinds={"postgres"},
            owners=OWNERS,
            metadata=target_table(),
            freshness_policy=deadline(installation),
        ),
    ]


def item_summary(
    context: dg.AssetExecutionContext, database: PlatformDatabase, settings: CalibrationSettings
) -> dg.MaterializeResult:
    """All items of the night: how many are calibrated, and a map of their parameters."""
    opened = database.get()
    night = resolve_as_of(context, settings, opened).date()
    outcomes = opened.run(partial(items_of_night, night=night))
    points = opened.run(partial(item_points, night=night))
    names = opened.run(partial(read_names, source=opened.platform))
    return dg.MaterializeResult(metadata=summary_metadata(night, outcomes, points, names))


def nightly_summary(
    context: dg.AssetExecutionContext,
    database: PlatformDatabase,
    settings: CalibrationSettings,
    installation: Installation,
) -> dg.MaterializeResult:
    """The page to read in the morning, and the night in numbers and tables."""
    opened = database.get()
    tag = context.run.tags.get(NIGHT_TAG)
    night = dt.date.fromisoformat(tag) if tag else opened.run(latest_night_date)
    if night is None:
        raise dg.Failure(
            "no night has been calibrated yet; materialise skill_bkt_params first", allow_retries=False
        )
    as_of = opened.run(partial(latest_as_of, night=night))
    until = resolve_as_of(context, settings, opened)
    report = _report(context, installation, opened, night, until, as_of or until)
    if report.calibrated:
        numbers = next(f.numbers for f in report.findings if f.name == parameters_are_fresh.name)
        metadata = {"night": night.isoformat(), "calibrated": report.calibrated, **numbers}
        context.log_event(dg.AssetMaterialization(installation.key(CURRENT_PARAMS), metadata=metadata))
    window_days = settings.options.window_days
    left_out = _left_out(context.instance, installation, opened, as_of, window_days) if as_of else {}
    problem = at_the_end(context.instance, installation, context.run, report)
    if problem:
        context.log.warning("%s", problem)
    items = opened.run(partial(item_points, night=night))
    return dg.MaterializeResult(
        metadata={"page": night_page(report, _ages(opened), items)}
        | night_metadata(night, report.skills, report.names)
        | {
            "without_outcome": report.without_outcome,
            RED_CHECKS: dg.MetadataValue.json(dict(report.red_checks)),
            **({NOT_DELIVERED: problem} if problem else {}),
        }
        | left_out,
        check_results=[as_check_result(finding, NIGHT_CHECKS) for finding in report.findings],
    )


def _report(
    context: dg.AssetExecutionContext,
    installation: Installation,
    database: Database,
    night: dt.date,
    until: dt.datetime,
    as_of: dt.datetime,
) -> NightReport:
    """What the ledger, the backend's table and Dagster's storage say about the night that ends at `until`."""
    instance = context.instance
    skills = database.run(partial(read_night, night=night, as_of=until))
    counts = Counter(skill.outcome for skill in skills)
    earlier = database.run(partial(attempts_of_earlier_nights, night=night, nights=USUAL_NIGHTS))
    known = skill_keys(instance, installation)
    if PART_TAG in context.run.tags and len(skills) < len(known):
        earlier = []  # some of the skills have fewer attempts than a whole night
    unusable = unusable_keys(database.platform, known)
    keys = [key for key in known if key not in unusable]
    since = database.run(partial(parameters_as_of, platform=database.platform, keys=keys))
    return NightReport(
        night,
        skills,
        names=database.run(partial(read_names, source=database.platform)),
        without_outcome=len(set(known) - {skill.skill_id for skill in skills}),
        findings=(
            *verify_night(counts, sum(skill.attempts or 0 for skill in skills), earlier),
            parameters_are_fresh(list(since.values()), as_of),
        ),
        red_checks=red_checks(instance, installation, night_tags(as_of)),
        red_before=red_before(instance, installation, night.isoformat()),
    )


def _ages(database: Database) -> list[tuple[str, int | None, int]] | str:
    """The ages of the rows that the backend reads, or why they cannot be read."""
    try:
        return database.run(ages_by_source)
    except DBAPIError as error:
        # A role that may not create or read the view still gets its summary.
        return reason(error)


def _left_out(
    instance: dg.DagsterInstance,
    installation: Installation,
    database: Database,
    as_of: dt.datetime,
    window_days: int,
) -> dict[str, int | str]:
    """How many attempts of the night's window belong to no skill, and what was counted in the skills' windows."""
    source = database.platform
    counted: dict[str, int | str] = {**counted_in_windows(instance, installation, as_of)}
    try:
        orphans = database.run(partial(count_orphans, source=source, as_of=as_of, window_days=window_days))
    except DBAPIError as error:
        # One skill's rows that cannot be read must not cost the night its summary.
        return counted | {"attempts_without_item": f"could not be counted: {reason(error)}"}
    return counted | {
        "attempts_without_item": orphans.without_item,
        "attempts_without_skill": orphans.without_skill,
    }
