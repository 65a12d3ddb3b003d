"""The assets of the skills. The mathematics is in `model`, the SQL in `db`, the verdicts in `calibration`."""

from collections.abc import Mapping, Sequence
from functools import partial

import dagster as dg

from bkt_pipeline import __version__
from bkt_pipeline.calibration.labels import labels
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.skill_checks import HISTORY_NIGHTS
from bkt_pipeline.calibration.skills import LOW_DATA_EVENT, SkillVerdict, judge
from bkt_pipeline.calibration.window_checks import verify_window
from bkt_pipeline.db.attempts import read_active_skills
from bkt_pipeline.db.isolation import printable, record_failed, unusable_keys
from bkt_pipeline.db.ledger import SkillOutcome
from bkt_pipeline.db.names import check_names, read_names
from bkt_pipeline.db.schema import attempt_window as attempt_window_table
from bkt_pipeline.db.verdicts import BATCH_SIZE, SkillVerdicts
from bkt_pipeline.defs.checks import attempt_window_checks, evaluations, skill_bkt_params_checks
from bkt_pipeline.defs.io_manager import RehearsedWindows
from bkt_pipeline.defs.metadata.figures import skill_picture
from bkt_pipeline.defs.metadata.skills import verdict_metadata, window_metadata
from bkt_pipeline.defs.metadata.tables import OWNERS, own_table, target_table
from bkt_pipeline.defs.partitions import (
    PARTITIONS_NAME,
    keys_in_use,
    partition_change,
    skill_keys,
    skill_partitions,
)
from bkt_pipeline.defs.progress import Progress, gathered
from bkt_pipeline.defs.reading import WindowReader
from bkt_pipeline.defs.reporting import (
    failed_skills,
    materialisations,
    rehearsed,
    report,
    unmaterialised_output,
)
from bkt_pipeline.defs.resources import CalibrationSettings, PlatformDatabase
from bkt_pipeline.defs.run import chosen_keys, resolve_as_of
from bkt_pipeline.model import warm_up
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.windows.store import window_store

CALIBRATION = "calibration"
REFUSED_KEY = "Dagster refuses partition keys that are empty or contain control characters or '...'"
POSTGRES = {"postgres"}


@dg.asset(
    deps=["skills"],
    group_name=CALIBRATION,
    kinds=POSTGRES,
    owners=OWNERS,
    code_version=__version__,
)
def active_skills(
    context: dg.AssetExecutionContext, database: PlatformDatabase, settings: CalibrationSettings
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
            metadata={"refused": {printable(key): why for key, why in unusable.items()}},
            allow_retries=False,
        )
    change = partition_change(active, skill_keys(context.instance))
    later = sorted(keys_in_use(context.instance) & set(change.retired)) if change.retired else []
    retired = [key for key in change.retired if key not in later]
    context.instance.add_dynamic_partitions(PARTITIONS_NAME, change.added)
    for key in retired:
        context.instance.delete_dynamic_partition(PARTITIONS_NAME, key)
    if later:
        context.log.warning(
            "%d skills will be retired later because unfinished runs need their partitions", len(later)
        )
    reasons = dict.fromkeys(change.refused, REFUSED_KEY) | unusable
    refused = [printable(key) for key in sorted(reasons)]
    if reasons:
        context.log.warning("these skills cannot be partitions and are left out: %s", refused)
        rows = [SkillOutcome(key, as_of, Outcome.FAILED, why) for key, why in reasons.items()]
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
            "retired": len(retired),
            "refused": len(refused),
            "changes": {
                "added": change.added,
                "retired": retired,
                "to_retire_later": later,
                "refused": refused,
            },
        }
    )


@dg.asset(
    deps=[active_skills, "items", "attempts"],
    partitions_def=skill_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    io_manager_key="io_manager",
    check_specs=attempt_window_checks,
    group_name=CALIBRATION,
    kinds=POSTGRES,
    owners=OWNERS,
    tags={"data": "students"},
    code_version=__version__,
    metadata=own_table(attempt_window_table),
)
def attempt_window(
    context: dg.AssetExecutionContext,
    database: PlatformDatabase,
    settings: CalibrationSettings,
    progress: dg.ResourceParam[Progress],
):
    """The graded attempts at the skill in the window, one ordered sequence per student.

    A window that could not be stored gets no materialisation; the calibration downstream then fails the run.
    """
    keys, opened = chosen_keys(context), database.get()
    as_of, run_id = resolve_as_of(context, settings, opened), context.run.run_id
    reader = WindowReader(opened, as_of, settings.options, run_id)
    windows = reader.read(keys, progress)
    if not settings.options.publish:
        yield unmaterialised_output(RehearsedWindows(windows))
        yield from evaluations(context, attempt_window_checks, {}, ())
        return
    yield unmaterialised_output(windows)
    failed = SkillVerdicts(opened, as_of, run_id).failures()
    stored = {key: window for key, window in windows.items() if key not in failed}
    counts, place = reader.count(windows), {"stored_in": window_store(opened.run).location}
    yield from materialisations(
        context, ((key, window_metadata(window, counts[key]) | place) for key, window in stored.items())
    )
    findings = {key: verify_window(window, counts[key]) for key, window in windows.items()}
    yield from evaluations(context, attempt_window_checks, findings, stored)
    chosen = context.run.asset_selection
    if failed and chosen and dg.AssetKey("skill_bkt_params") not in chosen:
        raise failed_skills("the skills", failed)


@dg.asset(
    partitions_def=skill_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    io_manager_key="io_manager",
    output_required=False,
    check_specs=skill_bkt_params_checks,
    group_name=CALIBRATION,
    kinds={"postgres", "numpy"},
    owners=OWNERS,
    tags={"model": "bkt"},
    code_version=__version__,
    metadata=target_table(),
)
def skill_bkt_params(
    context: dg.AssetExecutionContext,
    database: PlatformDatabase,
    attempt_window: dict[str, AttemptWindow],
    settings: CalibrationSettings,
    progress: dg.ResourceParam[Progress],
):
    """The skill's four BKT parameters, as the platform's backend reads them.

    Each skill is stored before it is reported. A failed skill gets no materialisation, and the run fails at the end;
    all other skills are stored and materialised.
    """
    keys, opened = chosen_keys(context), database.get()
    as_of = resolve_as_of(context, settings, opened)
    rehearsal = not settings.options.publish
    verdicts = SkillVerdicts(opened, as_of, context.run.run_id, rehearsal=rehearsal)
    history, failed = verdicts.history(keys, HISTORY_NIGHTS), verdicts.failures()
    warm_up(on_compile=lambda: progress.say("compiling the kernel (once on this machine, a few seconds) …"))
    judged = judge(keys, attempt_window, failed, as_of, settings.options, history, verdicts.school_prior())
    stored: list[SkillVerdict] = []
    for some in gathered(progress.track("calibrating", judged, len(keys)), BATCH_SIZE):
        stored += verdicts.store(some)
    if rehearsal:
        yield from rehearsed(context, stored, skill_bkt_params_checks)
        return
    stored = verdicts.read_back(stored)
    since = verdicts.current_since([v.skill_id for v in stored if v.fit is None])
    names = opened.run(partial(read_names, source=opened.platform))
    yield from report(
        context,
        stored,
        skill_bkt_params_checks,
        lambda verdict: (
            verdict_metadata(verdict, since.get(verdict.skill_id), names.get(verdict.skill_id))
            | picture_of(verdict, keys, names)
        ),
        what="the skills",
        low_data_event=LOW_DATA_EVENT,
        progress=progress,
    )


def picture_of(
    verdict: SkillVerdict, keys: Sequence[str], names: Mapping[str, str]
) -> dict[str, dg.MetadataValue | str]:
    """The picture of a skill that was calibrated alone; runs over several skills draw none, nor do skills without answers."""
    if len(keys) > 1 or verdict.fit is None or verdict.window is None or not verdict.window.n_attempts:
        return {}
    return {"picture": skill_picture(verdict.window, verdict.fit, labels(keys, names)[verdict.skill_id])}
