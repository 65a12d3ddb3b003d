"""The schedule that starts the night, and the deadline that follows from it."""

import datetime as dt
import re

import dagster as dg

from bkt_pipeline.defs.installation import CRON, Installation
from bkt_pipeline.defs.jobs import ACTIVE_SKILLS_JOB
from bkt_pipeline.defs.tags import AS_OF_TAG, night_tags

HOURS = 2  # from the start of a night to its deadline


def night_schedule(installation: Installation) -> dg.ScheduleDefinition:
    """The schedule of the installation's nights."""
    starts = "07:00 UTC" if installation.cron == CRON else f"{installation.cron} (UTC)"

    @dg.schedule(
        name=installation.name("nightly_bkt"),
        job_name=installation.name(ACTIVE_SKILLS_JOB),
        cron_schedule=installation.cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Starts the job active_skills_job, which begins a night, at {starts}; the tick is the night's as_of.",
    )
    def nightly_bkt(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        tags = night_tags(context.scheduled_execution_time) | installation.tags
        return dg.RunRequest(run_key=tags[AS_OF_TAG], tags=tags)

    return nightly_bkt


def deadline(installation: Installation) -> dg.FreshnessPolicy | None:
    """Fresh parameters two hours after each night starts; None where the schedule is not at one time of the day."""
    at = re.fullmatch(r"(\d+) (\d+) (\S+ \S+ \S+)", installation.cron)
    if at is None or int(at[2]) + HOURS > 23:
        return None
    return dg.FreshnessPolicy.cron(
        f"{at[1]} {int(at[2]) + HOURS} {at[3]}",
        lower_bound_delta=dt.timedelta(hours=HOURS),
        timezone="UTC",
    )
