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


def latest_due(installation: Installation, now: dt.datetime) -> dt.datetime | None:
    """The start of the night of this day that must have started by `now`, two hours later at the latest; None if none must.

    Only a schedule at one time of the day, on all or some days of the week, has such a night.
    """
    at = re.fullmatch(r"(\d+) (\d+) \* \* (\*|[0-7](?:-[0-7])?(?:,[0-7](?:-[0-7])?)*)", installation.cron)
    if at is None:
        return None
    latest = now - dt.timedelta(hours=HOURS)
    start = latest.replace(hour=int(at[2]), minute=int(at[1]), second=0, microsecond=0)
    return start if start <= latest and _is_on(at[3], start) else None


def _is_on(days: str, moment: dt.datetime) -> bool:
    """Whether the day is among those of cron's day of the week, in which both 0 and 7 are Sunday."""
    if days == "*":
        return True
    for part in days.split(","):
        first, _, last = part.partition("-")
        if moment.isoweekday() % 7 in {day % 7 for day in range(int(first), int(last or first) + 1)}:
            return True
    return False
