"""The sensors that send a message at once: a night failed, or did not start in time.

The summary of a night sends the message about a night that ended, whatever its result. Without BKT_NOTIFY these sensors do
nothing. A daemon that does not run sends nothing; BKT_HEARTBEAT and `bkt-pipeline doctor --max-age` reveal that.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from bkt_pipeline import errors
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.jobs import ACTIVE_SKILLS_JOB
from bkt_pipeline.defs.messages import at_once, named, ui_url
from bkt_pipeline.defs.notify.deliver import deliver
from bkt_pipeline.defs.notify.message import late_message
from bkt_pipeline.defs.reporting import FAILED_SKILLS
from bkt_pipeline.defs.run_errors import root
from bkt_pipeline.defs.schedules import HOURS, latest_due
from bkt_pipeline.defs.tags import COMMAND_TAG, REHEARSAL_TAG, WILL_RETRY_TAG, night_or_creation, night_tags
from bkt_pipeline.settings import settings

NOBODY = "BKT_NOTIFY is not set"
WAITING = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING)


def alarm_sensors(installation: Installation, jobs: Mapping[str, Any]) -> list[dg.SensorDefinition]:
    """The installation's two sensors, for a night that failed and for one that is late."""

    @dg.run_failure_sensor(
        name=installation.name("report_failed_night"),
        monitored_jobs=list(jobs.values()),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends a message to BKT_NOTIFY, once a night, when a run of the night failed as a whole. Failed skills "
        "are in the night's summary.",
    )
    def report_failed_night(context: dg.RunFailureSensorContext) -> dg.SkipReason:
        failures = context.get_step_failure_events()
        return dg.SkipReason(report_if_failed(context.instance, installation, context.dagster_run, failures))

    @dg.sensor(
        name=installation.name("report_late_night"),
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Sends a message to BKT_NOTIFY, once a night, when a night has not started {HOURS} hours after its time.",
    )
    def report_late_night(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        return report_if_late(context, installation, dt.datetime.now(dt.UTC))

    return [report_failed_night, report_late_night]


def report_if_failed(
    instance: dg.DagsterInstance,
    installation: Installation,
    run: dg.DagsterRun,
    failures: Sequence[dg.DagsterEvent],
) -> str:
    """Send the message about a night of which this run failed, unless somebody else does; returns what became of it."""
    record = instance.get_run_record_by_id(run.run_id)
    if settings().notify is None or record is None:
        return NOBODY
    tags = record.dagster_run.tags
    if COMMAND_TAG in tags or REHEARSAL_TAG in tags:
        return "the command reports its own failures, and a rehearsal publishes nothing"
    if tags.get(WILL_RETRY_TAG) == "true":
        return "Dagster retries the run; if that fails too, it is reported"
    reason = why_it_failed(failures)
    if reason is None:
        return "some of its skills failed, which the night's summary reports"
    night = night_tags(night_or_creation(record, installation.name("settings")))
    return at_once(instance, installation, run, night, f"a run of {run.job_name}", reason)


def report_if_late(
    context: dg.SensorEvaluationContext, installation: Installation, now: dt.datetime
) -> dg.SkipReason:
    """Send the message about the night of this day if it is late, and remember that in the sensor's cursor."""
    if settings().notify is None:
        return dg.SkipReason(NOBODY)
    start = latest_due(installation, now)
    if start is None:
        return dg.SkipReason("no night is due")
    if context.cursor == start.isoformat():
        return dg.SkipReason("the night was late, as reported")
    state = not_started(context.instance, installation, start)
    if state is None:
        return dg.SkipReason("the night has started")
    # Before it is sent, so that it is never sent twice.
    context.update_cursor(start.isoformat())
    message = late_message(start + dt.timedelta(hours=HOURS), state, ui_url())
    return dg.SkipReason(deliver(named(installation, message)) or "reported")


def not_started(instance: dg.DagsterInstance, installation: Installation, start: dt.datetime) -> str | None:
    """Why the night of this day counts as not started; None if it has."""
    day = start.replace(hour=0, minute=0)
    job = installation.name(ACTIVE_SKILLS_JOB)
    records = instance.get_run_records(
        dg.RunsFilter(job_name=job, tags=installation.tags, created_after=day - dt.timedelta(microseconds=1))
    )
    of_today = [
        record.dagster_run
        for record in records
        if night_or_creation(record, installation.name("settings")) >= day
        and REHEARSAL_TAG not in record.dagster_run.tags
    ]
    if not of_today:
        return f"the schedule's tick at {start:%H:%M} UTC started no run of {job}"
    if all(run.status in WAITING for run in of_today):
        return f"its run of {job} is still waiting to start"
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
