"""The sensors that start each part of the night.

1. At 07:00 UTC the schedule `nightly_bkt` starts the job `active_skills_job`.
2. When that has succeeded, `start_shards` starts the shards of the job `calibration`.
3. When every skill of the night has an outcome, `nightly_irt` starts the shards of the job `nightly_irt`,
   once a night.
4. When these have ended, `nightly_irt` starts the job `summaries`. A night without a calibrated skill
   skips step 3.

A night's other runs get the settings that its first run was started with. A rehearsal ends with its shards.

Every run of a night carries the tags `bkt/night`, `bkt/as_of` (the schedule's tick) and `bkt/partitions` (the
installation's name). Decisions are pure functions below the sensors and in `night_state`.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import dagster as dg

from bkt_pipeline.db.ledger import outcomes_since
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.jobs import CALIBRATION_JOB, ITEMS_JOB, SUMMARY_JOB
from bkt_pipeline.defs.night_state import (
    PAGE,
    coming_retries,
    latest_night_run,
    night_state,
    nights_begun,
    runs_of_night,
    waits_for,
)
from bkt_pipeline.defs.partitions import shards, store_order
from bkt_pipeline.defs.registration import skill_keys
from bkt_pipeline.defs.resources import PlatformDatabase
from bkt_pipeline.defs.tags import (
    AS_OF_TAG,
    CALIBRATED_TAG,
    FAILED_TAG,
    REHEARSAL_TAG,
    SHARD_TAG,
    config_of,
    night_of,
    night_tags,
)
from bkt_pipeline.instance.runs import end_dead_runs
from bkt_pipeline.settings import settings

NO_NIGHT = "waiting for a night: active_skills has not succeeded yet"


# Polled, because a run-status sensor would miss a run that ended before its first evaluation on a new instance.
def shards_sensor(installation: Installation) -> dg.SensorDefinition:
    """The sensor that starts the night's shards."""

    @dg.sensor(
        name=installation.name("start_shards"),
        job_name=installation.name(CALIBRATION_JOB),
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts the job calibration, one run for each shard of the night, when active_skills_job has succeeded.",
    )
    def start_shards(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        record = next_to_start(context.instance, installation, context.cursor)
        if record is None and context.cursor is None:
            return dg.SkipReason(NO_NIGHT)
        if record is None:
            return dg.SkipReason(
                f"the shards of the night as of {context.cursor} were started; waiting for the next night"
            )
        night = night_of_run(record, installation)
        as_of = night[AS_OF_TAG]
        requests = shard_requests(context.instance, installation, CALIBRATION_JOB, record, night)
        return dg.SensorResult(run_requests=requests, cursor=as_of)

    return start_shards


def items_sensor(installation: Installation, jobs: Mapping[str, Any]) -> dg.SensorDefinition:
    """The sensor that starts the night's item calibration and its summary."""

    @dg.sensor(
        name=installation.name("nightly_irt"),
        jobs=[jobs[ITEMS_JOB], jobs[SUMMARY_JOB]],
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={installation.name("database")},
        description="Starts the job nightly_irt once a night, when every skill of the night has an outcome, and then the "
        "job summaries when the items are done. If no skill was calibrated, starts only summaries.",
    )
    # Called directly, as tests do, it also gets the resources as arguments.
    def nightly_irt(context: dg.SensorEvaluationContext, **_: Any) -> dg.SensorResult | dg.SkipReason:
        instance = context.instance
        end_dead_runs(instance, installation.tags)
        record = latest_night_run(instance, installation)
        if record is None:
            return dg.SkipReason(NO_NIGHT)
        night = night_of_run(record, installation)
        as_of = night[AS_OF_TAG]
        if context.cursor == as_of:
            return dg.SkipReason(
                f"item calibration of the night as of {as_of} was started; waiting for the next night"
            )
        if context.cursor == items_started(as_of):
            if reason := summary_waits_for(runs_of_night(instance, installation, night, ITEMS_JOB)):
                return dg.SkipReason(f"waiting for the night as of {as_of}: {reason}")
            return sum_up(installation, record, night, cursor=as_of)
        database: PlatformDatabase = getattr(context.resources, installation.name("database"))
        outcomes = database.get().run(partial(outcomes_since, as_of=dt.datetime.fromisoformat(as_of)))
        state = night_state(instance, installation, night, outcomes)
        if reason := waits_for(state):
            return dg.SkipReason(f"waiting for the night as of {as_of}: {reason}")
        if not state.outcomes.get("calibrated"):
            if context.cursor == without_items(as_of):
                return dg.SkipReason(
                    f"waiting for the night as of {as_of}: no skill was calibrated, so items cannot be calibrated"
                )
            return sum_up(installation, record, night, cursor=without_items(as_of))
        failed = state.outcomes.get("failed", 0) + state.missing
        counts = {FAILED_TAG: str(failed), CALIBRATED_TAG: str(state.outcomes["calibrated"])}
        requests = shard_requests(instance, installation, ITEMS_JOB, record, night | counts)
        return dg.SensorResult(run_requests=requests, cursor=items_started(as_of))

    return nightly_irt


def next_to_start(
    instance: dg.DagsterInstance, installation: Installation, cursor: str | None
) -> dg.RunRecord | None:
    """The night whose shards are due, after that of the cursor: of those that publish only the latest, and every rehearsal.

    The earliest comes first, so that the cursor passes none of the others.
    """
    due: list[dg.RunRecord] = []
    a_night_publishes = False
    for record in islice(nights_begun(instance, installation), PAGE):
        if night_of_run(record, installation)[AS_OF_TAG] == cursor:
            break
        publishes = REHEARSAL_TAG not in record.dagster_run.tags
        if not (publishes and a_night_publishes):
            due.append(record)
        a_night_publishes |= publishes
    return due[-1] if due else None


def night_of_run(record: dg.RunRecord, installation: Installation) -> dict[str, str]:
    """The tags of the night that the run began."""
    return night_tags(night_of(record, installation.name("settings")))


def shard_requests(
    instance: dg.DagsterInstance,
    installation: Installation,
    job: str,
    record: dg.RunRecord,
    tags: Mapping[str, str],
) -> list[dg.RunRequest]:
    """The runs of the job that together cover the skills of the night."""
    keys, order = skill_keys(instance, installation), store_order(instance, installation)
    return [
        dg.RunRequest(
            job_name=installation.name(job),
            run_key=f"{tags[AS_OF_TAG]} {shard[SHARD_TAG]}",
            tags={**settings().shard_tags, **tags, **installation.tags, **shard},
            run_config=handed_on(record, installation),
        )
        for shard in shards(keys, order, settings().skills_per_run)
    ]


def handed_on(record: dg.RunRecord, installation: Installation) -> dict[str, Any]:
    """The settings that the night was started with, as the config of its other runs."""
    given = config_of(record, installation.name("settings"), installation.name("item_settings"))
    return {"resources": given} if given else {}


def items_started(as_of: str) -> str:
    """The sensor's cursor after it started a night's item calibration and before it starts the summary."""
    return f"{as_of} items"


def without_items(as_of: str) -> str:
    """The sensor's cursor after it started the summary of a night without a calibrated skill.

    It goes on from there if a skill of the night is calibrated later.
    """
    return f"{as_of} without items"


def sum_up(
    installation: Installation, record: dg.RunRecord, night: Mapping[str, str], cursor: str
) -> dg.SensorResult:
    """Start the night's summary once for each value of the cursor."""
    summary = dg.RunRequest(
        job_name=installation.name(SUMMARY_JOB),
        run_key=cursor,
        tags={**night, **installation.tags},
        run_config=handed_on(record, installation),
    )
    return dg.SensorResult(run_requests=[summary], cursor=cursor)


def summary_waits_for(item_runs: Sequence[dg.DagsterRun]) -> str | None:
    """What the night's summary is still waiting for; None when it can start. Failed runs do not delay it."""
    if running := sum(not run.is_finished for run in item_runs):
        return f"{running} of {len(item_runs)} runs of the item calibration are queued or running"
    if coming_retries(item_runs):
        return "crashed runs of the item calibration are about to be retried"
    return None
