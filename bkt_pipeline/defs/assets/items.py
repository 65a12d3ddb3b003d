"""The asset `item_irt_params`. The mathematics is in `model/irt`, the SQL in `db`, the verdicts in `calibration`."""

import datetime as dt
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import dagster as dg
from sqlalchemy import Connection

from bkt_pipeline.calibration.item_checks import ITEM_CHECKS
from bkt_pipeline.calibration.items import LOW_DATA_EVENT, ItemOptions, ItemsVerdict, judge_items
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.db.answers import read_answers, reflect_mastery
from bkt_pipeline.db.database import Database
from bkt_pipeline.db.items import platform_columns
from bkt_pipeline.db.params import current_params
from bkt_pipeline.db.partition_keys import NO_SKILL, unknown_keys
from bkt_pipeline.db.rehearsals import rehearsed_params
from bkt_pipeline.db.schema import item_irt_params as item_irt_params_table
from bkt_pipeline.db.verdicts import ItemVerdicts
from bkt_pipeline.defs.checks import check_specs
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.metadata.items import items_metadata
from bkt_pipeline.defs.metadata.tables import own_table
from bkt_pipeline.defs.progress import Progress, batches, one_ahead
from bkt_pipeline.defs.reporting import Report
from bkt_pipeline.defs.resources import CalibrationSettings, ItemSettings, PlatformDatabase
from bkt_pipeline.defs.run import chosen_keys, resolve_as_of
from bkt_pipeline.errors import WindowUnusable
from bkt_pipeline.model.irt.answers import SkillAnswers
from bkt_pipeline.model.irt.prior import ItemPrior

READ_BATCH = 100  # skills whose answers are in memory at a time
ITEMS = "items"


def item_assets(installation: Installation) -> list[dg.AssetsDefinition]:
    """The installation's asset of the items."""
    return [
        installation.asset(
            item_irt_params,
            group=ITEMS,
            deps=["skill_bkt_params", "items", "attempts"],
            partitioned=True,
            output_required=False,
            check_specs=check_specs(installation, "item_irt_params", ITEM_CHECKS),
            kinds={"postgres", "numpy"},
            tags={"model": "irt"},
            metadata=own_table(item_irt_params_table),
        )
    ]


def item_irt_params(
    context: dg.AssetExecutionContext,
    database: PlatformDatabase,
    settings: CalibrationSettings,
    item_settings: ItemSettings,
    progress: Progress,
):
    """Discrimination, difficulty and offset of the skill's items, calibrated with the skill's current parameters.

    Each skill's items are stored before they are reported. A failed skill gets no materialisation, and the run fails
    at the end; all other skills are stored and materialised.
    """
    keys, opened = chosen_keys(context), database.get()
    as_of, options = resolve_as_of(context, settings, opened), item_settings.options
    rehearsal = not settings.options.publish
    verdicts = ItemVerdicts(
        opened,
        as_of,
        context.run.run_id,
        item_model=options.item_model,
        update_platform=not rehearsal and updates_platform(context, item_settings, opened),
        rehearsal=rehearsal,
    )
    prior = verdicts.school_prior()
    report = Report[ItemsVerdict](
        context,
        ITEM_CHECKS,
        lambda verdict: items_metadata(verdict, as_of),
        total=len(keys),
        what="the skills' items",
        low_data_event=LOW_DATA_EVENT,
        rehearsal=rehearsal,
    )

    def judged(some: Sequence[str]) -> list[ItemsVerdict]:
        return list(judge_batch(opened, some, as_of, options, prior, rehearsal=rehearsal))

    pieces = batches(keys, READ_BATCH)
    for some in progress.track("items", one_ahead(judged, pieces), len(pieces)):
        stored = verdicts.store(some)
        yield from report.batch(stored if rehearsal else verdicts.read_back(stored))
    yield from report.end()


def updates_platform(context: dg.AssetExecutionContext, settings: ItemSettings, database: Database) -> bool:
    """Whether this run updates the platform's own item columns; warns if the role lacks the right."""
    if not settings.may_update_items():
        return False
    columns = database.run(partial(platform_columns, source=database.platform))
    refused = [name for name, may in columns.items() if not may]
    if refused:
        context.log.warning(
            "the role may not update items.%s, so the platform's items are not updated and the parameters are only in "
            "bkt_pipeline.item_irt_params; grant the right (GRANT UPDATE (irt_a, irt_b, irt_calibrated_at) ON items "
            "TO …), or set BKT_UPDATE_ITEMS=no",
            ", items.".join(refused),
        )
    return bool(columns) and not refused


def judge_batch(
    database: Database,
    keys: Sequence[str],
    as_of: dt.datetime,
    options: ItemOptions,
    prior: ItemPrior,
    *,
    rehearsal: bool,
) -> Iterator[ItemsVerdict]:
    """Read the answers to some skills and their current parameters, and yield a verdict for each skill.

    In a rehearsal, the parameters are those that it would have published; a skill that it skipped has its current ones.
    """

    def read(connection: Connection) -> Any:
        platform = database.platform
        unknown = unknown_keys(connection, platform, keys)
        known = [key for key in keys if key not in set(unknown)]
        mastery = (
            reflect_mastery(connection, database.source_schema) if options.theta_from == "mastery" else None
        )
        answers = read_answers(connection, platform, known, as_of, options.window_days, mastery)
        current = current_params(connection, platform, known)
        if rehearsal:
            current.params.update(rehearsed_params(connection, known, as_of))
        return unknown, answers, current

    unknown, read_of_keys, current = database.run(read)
    answers = {key: found for key, found in read_of_keys.items() if isinstance(found, SkillAnswers)}
    for key, error in read_of_keys.items():
        if isinstance(error, WindowUnusable):
            yield ItemsVerdict(key, Outcome.FAILED, reason=f"its answers were not read: {error}")
    for key in unknown:
        yield ItemsVerdict(key, Outcome.FAILED, reason=NO_SKILL)
    yield from judge_items(answers, current.params, current.unusable, options, prior)
