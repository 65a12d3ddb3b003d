"""The assets of the skills. The mathematics is in `model`, the SQL in `db`, the verdicts in `calibration`."""

import datetime as dt
from collections.abc import Sequence
from functools import partial
from threading import Thread

import dagster as dg

from bkt_pipeline.calibration.baseline import KEPT_NIGHTS
from bkt_pipeline.calibration.check import Check
from bkt_pipeline.calibration.labels import labels
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.skill_checks import SKILL_CHECKS
from bkt_pipeline.calibration.skills import LOW_DATA_EVENT, SkillVerdict, judge
from bkt_pipeline.calibration.window_checks import WINDOW_CHECKS, verify_window
from bkt_pipeline.db.attempts import read_active_skills
from bkt_pipeline.db.isolation import record_failed, shown_key, unusable_keys
from bkt_pipeline.db.ledger import SkillOutcome
from bkt_pipeline.db.names import check_names, read_names
from bkt_pipeline.db.schema import attempt_window as attempt_window_table
from bkt_pipeline.db.verdicts import BATCH_SIZE, SkillVerdicts
from bkt_pipeline.defs.checks import check_specs, evaluated, evaluations
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.io_manager import RehearsedWindows
from bkt_pipeline.defs.metadata.skill_page import skill_page
from bkt_pipeline.defs.metadata.skills import verdict_metadata, window_metadata
from bkt_pipeline.defs.metadata.tables import own_table, target_table
from bkt_pipeline.defs.progress import Progress, gathered
from bkt_pipeline.defs.reading import WindowReader
from bkt_pipeline.defs.red_checks import RedChecks
from bkt_pipeline.defs.registration import register
from bkt_pipeline.defs.reporting import (
    Report,
    failed_skills,
    materialisations,
    unmaterialised_output,
)
from bkt_pipeline.defs.resources import CalibrationSettings, ItemSettings, PlatformDatabase
from bkt_pipeline.defs.run import chosen_keys, resolve_as_of
from bkt_pipeline.model import warm_up
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.windows.store import window_store

CALIBRATION = "calibration"


def skill_assets(installation: Installation) -> list[dg.AssetsDefinition]:
    """The installation's assets of the skills."""

    def specs(asset: str, checks: Sequence[Check]) -> list[dg.AssetCheckSpec]:
        return check_specs(installation, asset, checks)

    return [
        installation.asset(active_skills, group=CALIBRATION, deps=["skills"], kinds={"postgres"}),
        installation.asset(
            attempt_window,
            group=CALIBRATION,
            deps=["active_skills", "items", "attempts"],
            partitioned=True,
            check_specs=specs("attempt_window", WINDOW_CHECKS),
            kinds={"postgres"},
            tags={"data": "students"},
            metadata=own_table(attempt_window_table),
        ),
        installation.asset(
            skill_bkt_params,
            group=CALIBRATION,
            partitioned=True,
            output_required=False,
            check_specs=specs("skill_bkt_params", SKILL_CHECKS),
            kinds={"postgres", "numpy"},
            tags={"model": "bkt"},
            metadata=target_table(),
        ),
    ]


def active_skills(
    context: dg.AssetExecutionContext,
    database: PlatformDatabase,
    settings: CalibrationSettings,
    item_settings: ItemSettings,  # not used here, but handed on to the night's other runs, so checked at launch
    installation: Installation,
) -> dg.MaterializeResult:
    """The skills that are active on the platform; each is a partition of the assets downstream."""
    opened = database.get()
    as_of = resolve_as_of(context, settings, opened)
    active = opened.run(partial(read_active_skills, source=opened.platform))
    opened.run(partial(check_names, source=opened.platform))
    if not active:
        raise dg.Failure("table skills has no active row; no partition was retired", allow_retries=False)
    unusable = unusable_keys(opened.platform, active)
    active = [key for key in active if key not in unusable]
    if not active:
        raise dg.Failure(
            f"none of the {len(unusable)} active skills has an id that can be calibrated; no partition was retired",
            metadata={"refused": {shown_key(key): why for key, why in unusable.items()}},
            allow_retries=False,
        )
    change = register(context.instance, installation, active)
    if change.later:
        context.log.warning(
            "%d skills will be retired later because unfinished runs need their partitions", len(change.later)
        )
    if change.others:
        context.log.info(
            "%d partitions named %s were added by somebody else and are left alone",
            change.others,
            installation.partitions_name,
        )
    refused = [shown_key(key) for key in sorted(unusable)]
    if unusable:
        context.log.warning("these skills cannot be partitions and are left out: %s", refused)
        rows = [SkillOutcome(key, as_of, Outcome.FAILED, why) for key, why in unusable.items()]
        opened.run(
            partial(
                record_failed,
                rows=rows,
                run_id=context.run.run_id,
                rehearsal=not settings.options.publish,
            )
        )
    return dg.MaterializeResult(
        metadata={
            "active": len(active),
            "added": len(change.added),
            "retired": len(change.retired),
            "refused": len(refused),
            "changes": {
                "added": change.added,
                "retired": change.retired,
                "to_retire_later": change.later,
                "refused": refused,
            },
        }
    )


def attempt_window(
    context: dg.AssetExecutionContext,
    database: PlatformDatabase,
    settings: CalibrationSettings,
    progress: Progress,
    installation: Installation,
):
    """The graded attempts at the skill in the window, one ordered sequence per student.

    A window that could not be stored gets no materialisation; the calibration downstream then fails the run.
    """
    keys, opened = chosen_keys(context), database.get()
    as_of, run_id = resolve_as_of(context, settings, opened), context.run.run_id
    chosen = context.run.asset_selection
    fitted = not chosen or installation.key("skill_bkt_params") in chosen
    if fitted:
        # While Postgres reads, this process only waits.
        Thread(target=_load_kernels, args=(progress,)).start()
    reader = WindowReader(opened, as_of, settings.options, run_id)
    windows = reader.read(keys, progress)
    context.log.info("read the windows of %s of %s skills", f"{len(windows):,}", f"{len(keys):,}")
    if not settings.options.publish:
        yield unmaterialised_output(RehearsedWindows(windows))
        yield from evaluated(context, WINDOW_CHECKS)
        return
    yield unmaterialised_output(windows)
    failed = SkillVerdicts(opened, as_of, run_id).failures()
    stored = {key: window for key, window in windows.items() if key not in failed}
    counts, place = (
        reader.count(windows),
        {"stored_in": window_store(opened.run, opened.url_variable).location},
    )
    yield from materialisations(
        context, ((key, window_metadata(window, counts[key]) | place) for key, window in stored.items())
    )
    findings = {key: verify_window(window, counts[key]) for key, window in windows.items()}
    yield from evaluations(context, WINDOW_CHECKS, findings, stored)
    red = RedChecks()
    red.count(findings)
    red.note(context)
    yield from evaluated(context, WINDOW_CHECKS)
    if failed and not fitted:
        raise failed_skills("the skills", failed)


def skill_bkt_params(
    context: dg.AssetExecutionContext,
    database: PlatformDatabase,
    attempt_window: dict[str, AttemptWindow],
    settings: CalibrationSettings,
    progress: Progress,
):
    """The skill's four BKT parameters, as the platform's backend reads them.

    Each skill is stored before it is reported. A failed skill gets no materialisation, and the run fails at the end;
    all other skills are stored and materialised.
    """
    keys, opened = chosen_keys(context), database.get()
    as_of = resolve_as_of(context, settings, opened)
    rehearsal = not settings.options.publish
    verdicts = SkillVerdicts(opened, as_of, context.run.run_id, rehearsal=rehearsal)
    history, failed = verdicts.history(keys, KEPT_NIGHTS), verdicts.failures()
    _load_kernels(progress)
    judged = judge(keys, attempt_window, failed, as_of, settings.options, history, verdicts.school_prior())
    names = opened.run(partial(read_names, source=opened.platform))
    called = labels(keys, names)
    since: dict[str, dt.datetime | None] = {}
    report = Report[SkillVerdict](
        context,
        SKILL_CHECKS,
        lambda verdict: (
            skill_page(verdict, history.get(verdict.skill_id), called[verdict.skill_id], as_of)
            | verdict_metadata(verdict, since.get(verdict.skill_id), names.get(verdict.skill_id))
        ),
        total=len(keys),
        what="the skills",
        low_data_event=LOW_DATA_EVENT,
        rehearsal=rehearsal,
    )
    # The other skills are fitted in the background while a batch is stored and reported.
    for some in gathered(progress.track("calibrating", judged, len(keys)), BATCH_SIZE):
        stored = verdicts.store(some)
        if not rehearsal:
            stored = verdicts.read_back(stored)
            since |= verdicts.current_since([v.skill_id for v in stored if v.fit is None])
        yield from report.batch(stored)
    if not rehearsal:
        verdicts.learn_prior()
    yield from report.end()


def _load_kernels(progress: Progress) -> None:
    warm_up(
        on_compile=lambda: progress.say("compiling the kernel (once on this machine, about 15 seconds) …")
    )
