"""The schedule that starts the night."""

import dagster as dg

from bkt_pipeline.defs.jobs import active_skills_job
from bkt_pipeline.defs.tags import AS_OF_TAG, night_tags

STARTS_AT = 7  # hour of the day, UTC
DUE_AT = STARTS_AT + 2  # when a night should have ended


@dg.schedule(
    job=active_skills_job,
    cron_schedule=f"0 {STARTS_AT} * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description=f"Starts the night at {STARTS_AT:02}:00 UTC; the tick is the night's as_of.",
)
def nightly_bkt(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    tags = night_tags(context.scheduled_execution_time)
    return dg.RunRequest(run_key=tags[AS_OF_TAG], tags=tags)
