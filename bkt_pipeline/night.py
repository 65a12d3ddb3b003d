"""One night, run through Dagster in this process: the active skills, then their calibration in one batch."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

import dagster as dg

from bkt_pipeline.automation import active_skills_job, calibration_job, range_tags, ranges, skill_partitions
from bkt_pipeline.errors import BktError, InvalidSettings
from bkt_pipeline.resources import AS_OF_TAG, NIGHT_TAG


class NightFailed(BktError):
    """The night could not begin: the active skills could not be read."""


@dataclass(frozen=True)
class NightRun:
    """Which runs made up the night."""

    as_of: dt.datetime
    run_ids: list[str]


def run_night(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    as_of: dt.datetime,
    skills: Collection[str] = (),
    *,
    log_events: bool = False,
) -> NightRun:
    """Calibrate the `skills` (default: all active ones) as of that moment.

    Skills that neighbour in the partition store are one run.

    Raises
    ------
    NightFailed
        The active skills could not be read.
    InvalidSettings
        One of the `skills` is no active skill.
    """
    tags = {NIGHT_TAG: as_of.date().isoformat(), AS_OF_TAG: as_of.isoformat()}
    config = {"loggers": {"console": {"config": {"log_level": "DEBUG" if log_events else "CRITICAL"}}}}

    def run(job: str, more: dict[str, str]) -> dg.ExecuteInProcessResult:
        return definitions.resolve_job_def(job).execute_in_process(
            run_config=config, instance=instance, tags=tags | more, raise_on_error=False
        )

    first = run(active_skills_job.name, {})
    if not first.success:
        raise NightFailed(f"the active skills could not be read: {_cause(first)}")
    present = instance.get_dynamic_partitions(skill_partitions.name)
    if unknown := sorted(set(skills) - set(present)):
        raise InvalidSettings(f"no active skill is called {', '.join(unknown)}; skills.id names them")
    runs = [
        run(calibration_job.name, range_tags(start, end))
        for start, end in ranges(set(skills or present), present, at_most=len(present))
    ]
    return NightRun(as_of, [each.run_id for each in runs])


def _cause(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            if error is not None:
                return error.message.strip()
    return f"run {result.run_id} failed"
