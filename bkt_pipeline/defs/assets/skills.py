"""The assets. Each body is a few lines: the mathematics is in model/, the statements in db/, the verdicts in calibration.py."""

import datetime as dt
from collections.abc import Sequence
from functools import partial

import dagster as dg

from bkt_pipeline import __version__
from bkt_pipeline.calibration.skill_checks import verify_window
from bkt_pipeline.calibration.skills import LOW_DATA_EVENT, Verdict, judge
from bkt_pipeline.db.attempts import read_active_skills, read_windows
from bkt_pipeline.db.ledger import record_refused
from bkt_pipeline.db.left_out import left_out
from bkt_pipeline.db.schema import attempt_window as attempt_window_table
from bkt_pipeline.defs.checks import attempt_window_checks, evaluations, skill_bkt_params_checks
from bkt_pipeline.defs.io_manager import PostgresUpsertIOManager
from bkt_pipeline.defs.metadata.figures import skill_picture
from bkt_pipeline.defs.metadata.skills import verdict_metadata, window_metadata
from bkt_pipeline.defs.metadata.tables import OWNERS, own_table, target_table
from bkt_pipeline.defs.partitions import partition_change, skill_partitions, unfinished_skill_runs
from bkt_pipeline.defs.progress import Progress, batches
from bkt_pipeline.defs.reporting import failed_skills, materialisations, unmaterialised_output
from bkt_pipeline.defs.resources import CalibrationSettings, PlatformDatabase
from bkt_pipeline.defs.run import chosen_keys, resolve_as_of, run_record
from bkt_pipeline.defs.tags import night_of
from bkt_pipeline.model import warm_up
from bkt_pipeline.model.attempts import AttemptWindow

READ_AT_ONCE = 200  # skills whose attempts are in memory as rows at a time


CALIBRATION = "calibration"


POSTGRES = {"postgres"}


BY_NINE = dg.FreshnessPolicy.cron("0 9 * * *", lower_bound_delta=dt.timedelta(hours=2), timezone="UTC")


@dg.asset(
    deps=["skills"],
    group_name=CALIBRATION,
    kinds=POSTGRES,
    owners=OWNERS,
    code_version=__version__,
)
def active_skills(context: dg.AssetExecutionContext, database: PlatformDatabase) -> dg.MaterializeResult:
    """The skills that are active on the platform; each is a partition of what follows."""
    opened = database.get()
    active = opened.run(partial(read_active_skills, source=opened.platform))
    if not active:
        raise dg.Failure("table skills has no active row; no partition was retired", allow_retries=False)
    change = partition_change(active, context.instance.get_dynamic_partitions(skill_partitions.name))
    busy = unfinished_skill_runs(context.instance) if change.retired else []
    context.instance.add_dynamic_partitions(skill_partitions.name, change.added)
    for key in [] if busy else change.retired:
        context.instance.delete_dynamic_partition(skill_partitions.name, key)
    if busy:
        context.log.warning("%d runs need their partitions: no skill is retired in this run", len(busy))
    if change.refused:
        context.log.warning(
            "Dagster takes no such partition key, these skills are left out: %s", change.refused
        )
        as_of = night_of(run_record(context))
        opened.run(partial(record_refused, keys=change.refused, as_of=as_of, run_id=context.run.run_id))
    return dg.MaterializeResult(
        metadata={
            "active": len(active),
            "added": len(change.added),
            "retired": 0 if busy else len(change.retired),
            "refused": len(change.refused),
            "changes": {
                "added": change.added,
                "retired": [] if busy else change.retired,
                "to_retire_later": change.retired if busy else [],
                "refused": change.refused,
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
    io_manager: dg.ResourceParam[PostgresUpsertIOManager],
    progress: dg.ResourceParam[Progress],
):
    """The graded attempts of the skill in the window, one ordered sequence a student.

    A window that could not be stored has no materialisation; the calibration that follows fails the run for it.
    """
    keys, opened = chosen_keys(context), database.get()
    as_of, days = resolve_as_of(context, settings), settings.window_days
    windows: dict[str, AttemptWindow] = {}
    pieces = batches(keys, READ_AT_ONCE)
    for some in progress.track("reading", pieces, len(pieces)):
        windows |= opened.run(
            partial(read_windows, source=opened.platform, keys=some, as_of=as_of, window_days=days)
        )
    yield unmaterialised_output(windows)
    failed = io_manager.failures(context.run.run_id)
    stored = {key: window for key, window in windows.items() if key not in failed}
    missing = opened.run(partial(left_out, source=opened.platform, keys=keys, as_of=as_of, window_days=days))
    place = {"stored_in": io_manager.windows_are_in()}
    told = (
        (key, window_metadata(window, missing.without_student.get(key, 0)) | place)
        for key, window in stored.items()
    )
    yield from materialisations(context, told)
    findings = {key: verify_window(window, missing.in_future.get(key, 0)) for key, window in windows.items()}
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
    freshness_policy=BY_NINE,
)
def skill_bkt_params(
    context: dg.AssetExecutionContext,
    attempt_window: dict[str, AttemptWindow],
    settings: CalibrationSettings,
    io_manager: dg.ResourceParam[PostgresUpsertIOManager],
    progress: dg.ResourceParam[Progress],
):
    """The skill's four BKT parameters, as the platform's backend reads them.

    Each skill is stored first and reported after. One that failed has no materialisation, and the
    run fails for it at the end; the others are stored and green.
    """
    keys, as_of = chosen_keys(context), resolve_as_of(context, settings)
    run_id = context.run.run_id
    history = io_manager.history(keys, as_of)
    warm_up(on_compile=lambda: progress.say("compiling the kernel, once on this machine: some seconds …"))
    judged = judge(keys, attempt_window, io_manager.failures(run_id), as_of, settings.rules, history)
    verdicts = []
    for verdict in progress.track("calibrating", judged, len(keys)):
        verdicts.append(io_manager.conclude(verdict, as_of, run_id))
        if verdict.outcome == "skipped":
            context.log.info("%s: skill %s, %s", LOW_DATA_EVENT, verdict.skill_id, verdict.reason)
    verdicts = io_manager.read_back(verdicts, run_id)
    done = [verdict for verdict in verdicts if verdict.outcome != "failed"]
    standing = io_manager.standing_since([v.skill_id for v in done if v.outcome != "calibrated"])
    told = (
        (v.skill_id, verdict_metadata(v, standing.get(v.skill_id)) | picture_of(v, keys))
        for v in progress.track("reporting", done, len(done))
    )
    yield from materialisations(context, told)
    findings = {verdict.skill_id: verdict.findings for verdict in verdicts}
    reported = [verdict.skill_id for verdict in done]
    yield from evaluations(context, skill_bkt_params_checks, findings, reported)
    if failed := {v.skill_id: v.reason or "" for v in verdicts if v.outcome == "failed"}:
        raise failed_skills("the skills", failed)
    yield unmaterialised_output({})


def picture_of(verdict: Verdict, keys: Sequence[str]) -> dict[str, dg.MetadataValue | str]:
    """The picture of a skill that was calibrated on its own; a batch carries none."""
    if len(keys) > 1 or verdict.fit is None or verdict.window is None:
        return {}
    return {"picture": skill_picture(verdict.window, verdict.fit)}
