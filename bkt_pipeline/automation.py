"""What runs when. Each decision is a pure function beside the schedule or sensor that asks it.

07:00 UTC: `nightly_bkt` starts the job `active_skills`; its success starts the shards of the job
`calibration` (`start_shards`); when the last skill of the night has an outcome, `nightly_irt`
starts the shards of the job of the same name, once a night, and when these have ended the job
`night_summary`; of a night without a calibrated skill the summary only. Every run of a night
bears the tags `bkt/night` and `bkt/as_of`; as_of is the schedule's tick.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import dagster as dg

from bkt_pipeline.db.ledger import outcomes_since
from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.partitions import range_tags, ranges, skill_partitions, unfinished_skill_runs
from bkt_pipeline.resources import AS_OF_TAG, COMMAND_TAG, PlatformDatabase, night_of, night_tags
from bkt_pipeline.runs import end_dead_runs

SHARD_TAG = "bkt/shard"
FAILED_TAG = "bkt/failed"
CALIBRATED_TAG = "bkt/calibrated"
WILL_RETRY_TAG = "dagster/will_retry"
AUTO_RETRY_RUN_TAG = "dagster/auto_retry_run_id"
SKILLS_PER_RUN = 1000
NO_NIGHT = "waits for a night: active_skills has not succeeded yet"
active_skills_job = dg.define_asset_job(
    "active_skills_job",
    selection=dg.AssetSelection.assets("active_skills"),
    description="Brings the partitions, one a skill, into step with the platform's active skills.",
)

calibration_job = dg.define_asset_job(
    "calibration",
    selection=dg.AssetSelection.assets("attempt_window", "skill_bkt_params"),
    description="Reads the window of each chosen skill and calibrates it.",
)


nightly_irt_job = dg.define_asset_job(
    "nightly_irt",
    selection=dg.AssetSelection.assets("item_irt_params"),
    description="Calibrates the items of each chosen skill with its fresh parameters.",
)

night_summary_job = dg.define_asset_job(
    "night_summary",
    selection=dg.AssetSelection.assets("nightly_summary", "item_summary"),
    description="Sums the night up: its skills, its items.",
)


@dg.schedule(
    job=active_skills_job,
    cron_schedule="0 7 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Starts the night at 07:00 UTC; the tick is the night's as_of.",
)
def nightly_bkt(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    tags = night_tags(context.scheduled_execution_time)
    return dg.RunRequest(run_key=tags[AS_OF_TAG], tags=tags)


def skills_per_run() -> int:
    """How many skills a shard run takes: BKT_SKILLS_PER_RUN, or 1000."""
    said = os.environ.get("BKT_SKILLS_PER_RUN", str(SKILLS_PER_RUN))
    if not said.isdecimal() or int(said) < 1:
        raise InvalidSettings(f"BKT_SKILLS_PER_RUN is {said!r}; it must be a whole number of at least 1")
    return int(said)


def shard_tags() -> dict[str, str]:
    """What else a shard run is tagged with: BKT_SHARD_TAGS, such as ``ecs/cpu=2048 ecs/memory=8192``."""
    said = os.environ.get("BKT_SHARD_TAGS", "")
    pairs = [pair.partition("=") for pair in said.split()]
    if not all(name and value for name, _, value in pairs):
        raise InvalidSettings(
            f"BKT_SHARD_TAGS is {said!r}; it must be name=value, several with a space between them"
        )
    return {name: value for name, _, value in pairs}


def shards(keys: Sequence[str], at_most: int) -> list[dict[str, str]]:
    """The tags of the runs that cover all of the keys, which are in the partition store's order."""
    pieces = list(ranges(keys, keys, at_most))
    return [
        {**range_tags(first, last), SHARD_TAG: f"{number} of {len(pieces)}"}
        for number, (first, last) in enumerate(pieces, start=1)
    ]


# Polled: a sensor on the run's status would miss a run that ended before its first look at a new instance.
@dg.sensor(
    name="start_shards",
    job=calibration_job,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts the night's shards when the active skills are known.",
)
def start_shards(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    record = latest_night(context.instance)
    if record is None:
        return dg.SkipReason(NO_NIGHT)
    night = night_tags(night_of(record))
    as_of = night[AS_OF_TAG]
    if context.cursor == as_of:
        return dg.SkipReason(f"the shards of the night as of {as_of} were started; waits for the next")
    keys = context.instance.get_dynamic_partitions(skill_partitions.name)
    requests = [
        dg.RunRequest(run_key=f"{as_of} {tags[SHARD_TAG]}", tags=shard_tags() | night | tags)
        for tags in shards(keys, skills_per_run())
    ]
    return dg.SensorResult(run_requests=requests, cursor=as_of)


@dataclass(frozen=True)
class NightState:
    """How far a night is."""

    skills: int
    outcomes: Mapping[str, int] = field(default_factory=Counter)
    unfinished_runs: int = 0
    coming_retries: int = 0
    started: bool = True

    @property
    def missing(self) -> int:
        """Skills without an outcome."""
        return self.skills - sum(self.outcomes.values())


def waits_for(night: NightState) -> str | None:
    """What the night's outcomes still wait for; None when they are all there."""
    to_come = f"{night.missing} of {night.skills} skills have no outcome yet"
    if night.unfinished_runs:
        return f"{night.unfinished_runs} runs are queued or running; {to_come}"
    if night.coming_retries:
        return f"{night.coming_retries} crashed runs are about to be started again"
    if night.missing and not night.started:
        return f"the night's shards have not started; {to_come}"
    return None


@dg.sensor(
    name="nightly_irt",
    jobs=[nightly_irt_job, night_summary_job],
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts the item calibration once a night, when the last skill of the night has an outcome, and the "
    "night's summary when the items are done, or at once where no skill was calibrated.",
)
def nightly_irt(
    context: dg.SensorEvaluationContext, database: PlatformDatabase
) -> dg.SensorResult | dg.SkipReason:
    end_dead_runs(context.instance)
    record = latest_night(context.instance)
    if record is None:
        return dg.SkipReason(NO_NIGHT)
    night = night_tags(night_of(record))
    as_of = night[AS_OF_TAG]
    if context.cursor == as_of:
        return dg.SkipReason(f"item calibration of the night as of {as_of} was started; waits for the next")
    if context.cursor == items_started(as_of):
        if reason := summary_waits_for(runs_of_night(context.instance, night, nightly_irt_job.name)):
            return dg.SkipReason(f"waits for the night as of {as_of}: {reason}")
        return sum_up(night, cursor=as_of)
    outcomes = database.get().run(partial(outcomes_since, as_of=night_of(record)))
    state = night_state(context.instance, night, outcomes)
    if reason := waits_for(state):
        return dg.SkipReason(f"waits for the night as of {as_of}: {reason}")
    if not state.outcomes.get("calibrated"):
        if context.cursor == without_items(as_of):
            return dg.SkipReason(
                f"waits for the night as of {as_of}: a calibrated skill; it has none, so there is nothing to "
                "calibrate items with"
            )
        return sum_up(night, cursor=without_items(as_of))
    failed = state.outcomes.get("failed", 0) + state.missing
    counts = {FAILED_TAG: str(failed), CALIBRATED_TAG: str(state.outcomes["calibrated"])}
    keys = context.instance.get_dynamic_partitions(skill_partitions.name)
    requests = [
        dg.RunRequest(
            job_name=nightly_irt_job.name,
            run_key=f"{as_of} {tags[SHARD_TAG]}",
            tags=shard_tags() | night | counts | tags,
        )
        for tags in shards(keys, skills_per_run())
    ]
    return dg.SensorResult(run_requests=requests, cursor=items_started(as_of))


def items_started(as_of: str) -> str:
    """The sensor's cursor between the start of a night's item calibration and that of its summary."""
    return f"{as_of} items"


def without_items(as_of: str) -> str:
    """The sensor's cursor when a night without a calibrated skill was summed up, until somebody mends one."""
    return f"{as_of} without items"


def sum_up(night: Mapping[str, str], cursor: str) -> dg.SensorResult:
    """Start the night's summary, once for each value of the cursor."""
    summary = dg.RunRequest(job_name=night_summary_job.name, run_key=cursor, tags=dict(night))
    return dg.SensorResult(run_requests=[summary], cursor=cursor)


def summary_waits_for(item_runs: Sequence[dg.DagsterRun]) -> str | None:
    """What the night's summary still waits for; None when it can start. Failed runs do not hold it up."""
    if running := sum(not run.is_finished for run in item_runs):
        return f"{running} of {len(item_runs)} runs of the item calibration are queued or running"
    if coming_retries(item_runs):
        return "crashed runs of the item calibration are about to be started again"
    return None


def latest_night(instance: dg.DagsterInstance) -> dg.RunRecord | None:
    """The last run that a night began with; the nights of the command end by themselves and do not count."""
    succeeded = dg.RunsFilter(job_name=active_skills_job.name, statuses=[dg.DagsterRunStatus.SUCCESS])
    for record in instance.get_run_records(succeeded, limit=20):
        if COMMAND_TAG not in record.dagster_run.tags:
            return record
    return None


def night_state(
    instance: dg.DagsterInstance, night: Mapping[str, str], outcomes: Mapping[str, str]
) -> NightState:
    """How far the night is, from the runs that there are and each skill's outcome since."""
    keys = instance.get_dynamic_partitions(skill_partitions.name)
    of_night = runs_of_night(instance, night)
    return NightState(
        skills=len(keys),
        outcomes=Counter(outcomes[key] for key in keys if key in outcomes),
        unfinished_runs=len(unfinished_skill_runs(instance)),
        coming_retries=coming_retries(of_night),
        started=any(run.job_name == calibration_job.name for run in of_night),
    )


def runs_of_night(
    instance: dg.DagsterInstance, night: Mapping[str, str], job: str | None = None
) -> Sequence[dg.DagsterRun]:
    """The runs that bear the night's tag, of one job or of all."""
    return instance.get_runs(dg.RunsFilter(job_name=job, tags={AS_OF_TAG: night[AS_OF_TAG]}))


def coming_retries(runs: Sequence[dg.DagsterRun]) -> int:
    """How many of the runs crashed and will be started again by Dagster, which has not happened yet."""
    return sum(
        run.tags.get(WILL_RETRY_TAG) == "true" and AUTO_RETRY_RUN_TAG not in run.tags
        for run in runs
        if run.status == dg.DagsterRunStatus.FAILURE
    )
