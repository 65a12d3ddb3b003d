"""The progress of a night, from its runs and outcomes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.jobs import ACTIVE_SKILLS_JOB, CALIBRATION_JOB
from bkt_pipeline.defs.partitions import unfinished_skill_runs
from bkt_pipeline.defs.registration import skill_keys
from bkt_pipeline.defs.tags import AS_OF_TAG, AUTO_RETRY_RUN_TAG, COMMAND_TAG, REHEARSAL_TAG, WILL_RETRY_TAG

PAGE = 50  # run records read at a time


@dataclass(frozen=True)
class NightState:
    """The progress of a night."""

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
    """What the night's outcomes are still waiting for; None when they are complete."""
    to_come = f"{night.missing} of {night.skills} skills have no outcome yet"
    if night.unfinished_runs:
        return f"{night.unfinished_runs} runs are queued or running; {to_come}"
    if night.coming_retries:
        return f"{night.coming_retries} crashed runs are about to be retried"
    if night.missing and not night.started:
        return f"the night's shards have not started; {to_come}"
    return None


def latest_night_run(instance: dg.DagsterInstance, installation: Installation) -> dg.RunRecord | None:
    """The latest successful run that began a night that publishes."""
    begun = nights_begun(instance, installation)
    return next((run for run in begun if REHEARSAL_TAG not in run.dagster_run.tags), None)


def nights_begun(instance: dg.DagsterInstance, installation: Installation) -> Iterator[dg.RunRecord]:
    """The successful runs that began a night, the latest first. Nights of the command need no sensors and are left out."""
    succeeded = dg.RunsFilter(
        job_name=installation.name(ACTIVE_SKILLS_JOB),
        tags=installation.tags,
        statuses=[dg.DagsterRunStatus.SUCCESS],
    )
    cursor = None
    while records := instance.get_run_records(succeeded, limit=PAGE, cursor=cursor):
        yield from (record for record in records if COMMAND_TAG not in record.dagster_run.tags)
        cursor = records[-1].dagster_run.run_id


def night_state(
    instance: dg.DagsterInstance,
    installation: Installation,
    night: Mapping[str, str],
    outcomes: Mapping[str, str],
) -> NightState:
    """The night's progress, from the existing runs and the outcome of each skill in the night."""
    keys = skill_keys(instance, installation)
    of_night = runs_of_night(instance, installation, night)
    return NightState(
        skills=len(keys),
        outcomes=Counter(outcomes[key] for key in keys if key in outcomes),
        unfinished_runs=len(unfinished_skill_runs(instance, installation)),
        coming_retries=coming_retries(of_night),
        started=any(run.job_name == installation.name(CALIBRATION_JOB) for run in of_night),
    )


def runs_of_night(
    instance: dg.DagsterInstance, installation: Installation, night: Mapping[str, str], job: str | None = None
) -> Sequence[dg.DagsterRun]:
    """The installation's runs that carry the night's tag, of one job or of all."""
    return instance.get_runs(
        dg.RunsFilter(
            job_name=installation.name(job) if job else None,
            tags={AS_OF_TAG: night[AS_OF_TAG], **installation.tags},
        )
    )


def coming_retries(runs: Sequence[dg.DagsterRun]) -> int:
    """How many of the runs crashed and will be, but have not yet been, retried by Dagster."""
    return sum(
        run.tags.get(WILL_RETRY_TAG) == "true" and AUTO_RETRY_RUN_TAG not in run.tags
        for run in runs
        if run.status == dg.DagsterRunStatus.FAILURE
    )
