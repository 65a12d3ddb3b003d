"""The assets of the items. The mathematics is in model/items.py, the statements in db/, the verdicts in item_calibration.py."""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from sqlalchemy import Connection

from bkt_pipeline import __version__
from bkt_pipeline.calibration.item_checks import ITEM_RULES
from bkt_pipeline.calibration.items import LOW_DATA_EVENT, ItemRules, ItemsVerdict, judge_items
from bkt_pipeline.db.answers import read_answers, reflect_mastery
from bkt_pipeline.db.database import Database
from bkt_pipeline.db.params import standing_params
from bkt_pipeline.db.schema import item_irt_params as item_irt_params_table
from bkt_pipeline.defs.assets.skills import skill_bkt_params
from bkt_pipeline.defs.checks import evaluations, specs
from bkt_pipeline.defs.io_manager import PostgresUpsertIOManager
from bkt_pipeline.defs.metadata.items import items_metadata
from bkt_pipeline.defs.metadata.tables import OWNERS, own_table
from bkt_pipeline.defs.partitions import skill_partitions
from bkt_pipeline.defs.progress import Progress, batches
from bkt_pipeline.defs.reporting import failed_skills, materialisations, unmaterialised_output
from bkt_pipeline.defs.resources import CalibrationSettings, ItemSettings, PlatformDatabase
from bkt_pipeline.defs.run import chosen_keys, resolve_as_of

READ_AT_ONCE = 100  # skills whose answers are in memory at a time


ITEMS = "items"


item_irt_params_checks = specs("item_irt_params", ITEM_RULES)


@dg.asset(
    deps=[skill_bkt_params, "items", "attempts"],
    partitions_def=skill_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    io_manager_key="io_manager",
    output_required=False,
    check_specs=item_irt_params_checks,
    group_name=ITEMS,
    kinds={"postgres", "numpy"},
    owners=OWNERS,
    tags={"model": "irt"},
    code_version=__version__,
    metadata=own_table(item_irt_params_table),
)
def item_irt_params(
    context: dg.AssetExecutionContext,
    database: PlatformDatabase,
    settings: CalibrationSettings,
    item_settings: ItemSettings,
    io_manager: dg.ResourceParam[PostgresUpsertIOManager],
    progress: dg.ResourceParam[Progress],
):
    """Discrimination and difficulty of the skill's items, calibrated with the skill's parameters of this night.

    Each skill's items are stored first and reported after. One that failed has no materialisation, and the
    run fails for it at the end; the others are stored and green.
    """
    keys, as_of = chosen_keys(context), resolve_as_of(context, settings)
    update = updates_platform(context, item_settings, io_manager)
    rules, opened = item_settings.rules(), database.get()
    verdicts: list[ItemsVerdict] = []
    pieces = batches(keys, READ_AT_ONCE)
    for some in progress.track("items", pieces, len(pieces)):
        judged = judge_batch(opened, some, as_of, item_settings.window_days, rules)
        concluded = [
            io_manager.conclude_items(verdict, as_of, context.run.run_id, update_platform=update)
            for verdict in judged
        ]
        verdicts += io_manager.read_items_back(concluded, context.run.run_id, update_platform=update)
    done = [verdict for verdict in verdicts if verdict.outcome != "failed"]
    for verdict in done:
        if verdict.outcome == "skipped":
            context.log.info("%s: skill %s, %s", LOW_DATA_EVENT, verdict.skill_id, verdict.reason)
    yield from materialisations(context, ((v.skill_id, items_metadata(v, as_of)) for v in done))
    findings = {verdict.skill_id: verdict.findings for verdict in verdicts}
    yield from evaluations(context, item_irt_params_checks, findings, [verdict.skill_id for verdict in done])
    if failed := {v.skill_id: v.reason or "" for v in verdicts if v.outcome == "failed"}:
        raise failed_skills("the skills' items", failed)
    yield unmaterialised_output({})


def updates_platform(
    context: dg.AssetExecutionContext, settings: ItemSettings, io_manager: PostgresUpsertIOManager
) -> bool:
    """Whether the platform's own item columns are updated in this run; where they could be and we may not, warn."""
    columns = io_manager.item_columns() if settings.may_update_items() else {}
    refused = [name for name, may in columns.items() if not may]
    if refused:
        context.log.warning(
            "the role may not update items.%s, so the platform's items keep what they have and the parameters are in "
            "bkt_pipeline.item_irt_params only; grant it (GRANT UPDATE (irt_a, irt_b, irt_calibrated_at) ON items "
            "TO …), or set BKT_UPDATE_ITEMS=no",
            ", items.".join(refused),
        )
    return bool(columns) and not refused


def judge_batch(
    database: Database, keys: Sequence[str], as_of: dt.datetime, window_days: int, rules: ItemRules
) -> Iterator[ItemsVerdict]:
    """Read the answers of some skills with the parameters that stand now, and judge them."""

    def read(connection: Connection) -> Any:
        platform = database.platform
        mastery = reflect_mastery(connection) if rules.theta_from == "mastery" else None
        return (
            read_answers(connection, platform, keys, as_of, window_days, mastery),
            standing_params(connection, platform, keys),
        )

    answers, standing = database.run(read)
    return judge_items(answers, standing.params, standing.unusable, rules)
