"""The night's two summaries: its skills and its items."""

import datetime as dt
from collections import Counter
from functools import partial

import dagster as dg
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.calibration.night_checks import NIGHT_CHECKS, USUAL_NIGHTS, verify_night
from bkt_pipeline.db.database import Database
from bkt_pipeline.db.items import load_items
from bkt_pipeline.db.ledger import items_of_night
from bkt_pipeline.db.left_out import count_orphans
from bkt_pipeline.db.nights import attempts_of_earlier_nights, latest_as_of, latest_night_date, read_night
from bkt_pipeline.db.retry import reason
from bkt_pipeline.defs.assets.items import ITEMS
from bkt_pipeline.defs.assets.skills import CALIBRATION
from bkt_pipeline.defs.checks import as_check_result, check_specs
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.metadata.items import summary_metadata
from bkt_pipeline.defs.metadata.night import night_metadata
from bkt_pipeline.defs.night_counts import counted_in_windows
from bkt_pipeline.defs.registration import skill_keys
from bkt_pipeline.defs.resources import CalibrationSettings, PlatformDatabase
from bkt_pipeline.defs.run import resolve_as_of
from bkt_pipeline.defs.tags import NIGHT_TAG


def summary_assets(installation: Installation) -> list[dg.AssetsDefinition]:
    """The installation's two summaries."""

    def upstream(asset: str) -> dg.AssetDep:
        return dg.AssetDep(installation.key(asset), partition_mapping=dg.AllPartitionMapping())

    kinds = {"postgres", "matplotlib"}
    return [
        installation.asset(item_summary, group=ITEMS, deps=[upstream("item_irt_params")], kinds=kinds),
        installation.asset(
            nightly_summary,
            group=CALIBRATION,
            deps=[upstream("skill_bkt_params")],
            check_specs=check_specs(installation, "nightly_summary", NIGHT_CHECKS, partitioned=False),
            kinds=kinds,
        ),
    ]


def item_summary(
    context: dg.AssetExecutionContext, database: PlatformDatabase, settings: CalibrationSettings
) -> dg.MaterializeResult:
    """All items of the night: how many are calibrated, and a map of their parameters."""
    opened = database.get()
    night = resolve_as_of(context, settings, opened).date()
    outcomes = opened.run(partial(items_of_night, night=night))
    stored = opened.run(partial(load_items, keys=[outcome.skill_id for outcome in outcomes]))
    return dg.MaterializeResult(metadata=summary_metadata(night, outcomes, stored.values()))


def nightly_summary(
    context: dg.AssetExecutionContext,
    database: PlatformDatabase,
    settings: CalibrationSettings,
    installation: Installation,
) -> dg.MaterializeResult:
    """The night in numbers: outcomes, largest changes, worst fits, the skipped or failed skills, and what was left out."""
    opened = database.get()
    tag = context.run.tags.get(NIGHT_TAG)
    night = dt.date.fromisoformat(tag) if tag else opened.run(latest_night_date)
    if night is None:
        raise dg.Failure(
            "no night has been calibrated yet; materialise skill_bkt_params first", allow_retries=False
        )
    skills = opened.run(partial(read_night, night=night))
    earlier = opened.run(partial(attempts_of_earlier_nights, night=night, nights=USUAL_NIGHTS))
    counts = Counter(skill.outcome for skill in skills)
    findings = verify_night(counts, sum(skill.attempts or 0 for skill in skills), earlier)
    known = skill_keys(context.instance, installation)
    without = set(known) - {skill.skill_id for skill in skills}
    return dg.MaterializeResult(
        metadata=night_metadata(night, skills)
        | {"without_outcome": len(without)}
        | _left_out(context.instance, installation, opened, night, settings.options.window_days),
        check_results=[as_check_result(finding, NIGHT_CHECKS) for finding in findings],
    )


def _left_out(
    instance: dg.DagsterInstance,
    installation: Installation,
    database: Database,
    night: dt.date,
    window_days: int,
) -> dict[str, int | str]:
    """How many attempts of the night's window belong to no skill, and what was counted in the skills' windows."""
    as_of = database.run(partial(latest_as_of, night=night))
    if as_of is None:
        return {}
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
