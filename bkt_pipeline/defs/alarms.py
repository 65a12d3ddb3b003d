"""The sensors that send a message at once: a night failed, or did not start in time.

The summary of a night sends the message about a night that ended, whatever its result. Without BKT_NOTIFY these sensors do
nothing. A daemon that does not run sends nothing; BKT_HEARTBEAT and `bkt-pipeline doctor --max-age` reveal that.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import dagster as dg

from bkt_pipeline import errors
from bkt_pipeline.defs.jobs import active_skills_job, calibration_job, night_summary_job, nightly_irt_job
from bkt_pipeline.defs.messages import at_once, ui_url
from bkt_pipeline.defs.reporting import FAILED_SKILLS
from bkt_pipeline.defs.run_errors import root
from bkt_pipeline.defs.schedules import DUE_AT, STARTS_AT
from bkt_pipeline.defs.tags import COMMAND_TAG, REHEARSAL_TAG, WILL_RETRY_TAG, night_of, night_tags
from bkt_pipeline.notify.deliver import deliver
from bkt_pipeline.notify.message import late_message
from bkt_pipeline.settings import settings

NOBODY = "BKT_NOTIFY is not set"
WAITING = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING)


@dg.run_failure_sensor(
    name="report_failed_night",
    monitored_jobs=[active_skills_job, calibration_job, nightly_irt_job, night_summary_job],
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sends a message to BKT_NOTIFY, once a night, when a run of the night failed as a whole. Failed skills are in "
    "the night's summary.",
)
def report_failed_night(context: dg.RunFailureSensorContext) -> dg.SkipReason:
    run, instance = context.dagster_run, context.instance
    record = instance.get_run_record_by_id(run.run_id)
    if settings().notify is None or record is None:
        return dg.SkipReason(NOBODY)
    tags = record.dagster_run.tags
    if COMMAND_TAG in tags or REHEARSAL_TAG in tags:
        return dg.SkipReason("the command reports its own failures, and a rehearsal publishes nothing")
    if tags.get(WILL_RETRY_TAG) == "true":
        return dg.SkipReason("Dagster retries the run; if that fails too, it is reported")
    reason = why_it_failed(context.get_step_failure_events())
    if reason is None:
        return dg.SkipReason("some of its skills failed, which the night's summary reports")
    night = night_tags(night_of(record))
    return dg.SkipReason(at_once(instance, run, night, f"a run of {run.job_name}", reason))


@dg.sensor(
    name="report_late_night",
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=f"Sends a message to BKT_NOTIFY, once a day, when no night has started by {DUE_AT:02}:00 UTC.",
)
def report_late_night(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    return report_if_late(context, dt.datetime.now(dt.UTC))


def report_if_late(context: dg.SensorEvaluationContext, now: dt.datetime) -> dg.SkipReason:
    """Send the message about the night of this day if it is late, and remember that in the sensor's cursor."""
    if settings().notify is None:
        return dg.SkipReason(NOBODY)
    due, today = due_on(now), now.date().isoformat()
    if now < due:
        return dg.SkipReason(f"the night is due by {due:%H:%M} UTC")
    if context.cursor == today:
        return dg.SkipReason("today's night was late, as reported")
    state = not_started(context.instance, now)
    if state is None:
        return dg.SkipReason("today's night has started")
    # Before it is sent, so that it is never sent twice.
    context.update_cursor(today)
    problem = deliver(late_message(due, state, ui_url()))
    return dg.SkipReason(problem or "reported")


def due_on(now: dt.datetime) -> dt.datetime:
    """When the night of this day must have started."""
    return now.replace(hour=DUE_AT, minute=0, second=0, microsecond=0)


def not_started(instance: dg.DagsterInstance, now: dt.datetime) -> str | None:
    """Why the night of this day counts as not started; None if it has."""
    since = now.replace(hour=0, minute=0, second=0, microsecond=0)
    records = instance.get_run_records(
        dg.RunsFilter(job_name=active_skills_job.name, created_after=since - dt.timedelta(microseconds=1))
    )
    of_today = [
        record.dagster_run
        for record in records
        if night_of(record) >= since and REHEARSAL_TAG not in record.dagster_run.tags
    ]
    if not of_today:
        return f"the schedule's tick at {STARTS_AT:02}:00 UTC started no run of {active_skills_job.name}"
    if all(run.status in WAITING for run in of_today):
        return f"its run of {active_skills_job.name} is still waiting to start"
    return None


def why_it_failed(failures: Sequence[dg.DagsterEvent]) -> str | None:
    """Why a run failed, in one line that holds no secret; None if only some of its skills failed."""
    reasons = []
    for event in failures:
        data: Any = event.event_specific_data
        given = data.user_failure_data
        if given is not None:
            if FAILED_SKILLS not in (given.metadata or {}):
                reasons.append(given.description or "it gave no reason")
            continue
        reasons.append(_in_one_line(root(data.error)))
    if failures and not reasons:
        return None
    return reasons[0] if reasons else "its process ended without a reason; see the run's log"


def _in_one_line(error: Any) -> str:
    # Only our own errors are known to quote neither a statement nor a row nor a URL.
    if error is None:
        return "see the run's log"
    if isinstance(getattr(errors, error.cls_name or "", None), type):
        return str(error.message).strip().splitlines()[0].partition(": ")[2]
    return f"unexpected {error.cls_name}; see the run's log"
