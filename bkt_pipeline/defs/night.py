"""One night, run through Dagster in this process: the active skills, their calibration in one batch, their items."""

import datetime as dt
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import dagster as dg
from sqlalchemy import Connection

from bkt_pipeline.calibration.skills import overtaken
from bkt_pipeline.db.database import Database
from bkt_pipeline.db.items import ItemsOutcome, items_of_runs, record_items
from bkt_pipeline.db.ledger import Outcome, of_runs, record
from bkt_pipeline.db.params import night_result
from bkt_pipeline.defs.jobs import active_skills_job, calibration_job, night_summary_job, nightly_irt_job
from bkt_pipeline.defs.partitions import SKILLS_TAG, range_tags, ranges, skill_partitions
from bkt_pipeline.defs.tags import COMMAND_TAG, night_tags
from bkt_pipeline.errors import BktError, DatabaseUnavailable, InvalidSettings, WindowStoreUnavailable
from bkt_pipeline.instance.event_log import seeing_only
from bkt_pipeline.instance.runs import end_dead_runs, process_tag

log = logging.getLogger("bkt_pipeline")


class NightFailed(BktError):
    """The night could not begin: the active skills could not be read."""


@dataclass(frozen=True)
class NightRun:
    """What came of a night: an outcome for each of its skills, and the night's result as calibration.md has it; and
    what came of the items, with the seconds that took, or None where they were left out."""

    outcomes: list[Outcome]
    result: dict[str, Any]
    items: list[ItemsOutcome] | None
    items_seconds: float


def run_night(
    database: Database,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    as_of: dt.datetime,
    skills: Collection[str] = (),
    *,
    log_events: bool = False,
    with_items: bool = True,
) -> NightRun:
    """Calibrate the `skills` (default: all active ones) as of that moment, then their items: a run each.

    Raises
    ------
    NightFailed
        The active skills could not be read.
    InvalidSettings
        One of the `skills` is no active skill, or they do not neighbour and Dagster's storage is not ours.
    DatabaseUnavailable, WindowStoreUnavailable
        One of these was lost on the way; what was stored until then stands.
    """
    tags = night_tags(as_of) | {COMMAND_TAG: "nightly"} | process_tag()
    config = {"loggers": {"console": {"config": {"log_level": "DEBUG" if log_events else "CRITICAL"}}}}

    def run(job: str, more: dict[str, str]) -> dg.ExecuteInProcessResult:
        return definitions.resolve_job_def(job).execute_in_process(
            run_config=config, instance=instance, tags=tags | more, raise_on_error=False
        )

    end_dead_runs(instance)
    first = run(active_skills_job.name, {})
    if not first.success:
        raise NightFailed(f"the active skills could not be read: {_cause(first)}")
    present = instance.get_dynamic_partitions(skill_partitions.name)
    if unknown := sorted(set(skills) - set(present)):
        raise InvalidSettings(f"no active skill is called {', '.join(unknown)}; skills.id names them")
    chosen = [key for key in present if key in skills] if skills else present
    covering = range_tags(chosen[0], chosen[-1]) if chosen else {}
    scattered = len(list(ranges(chosen, present, at_most=len(present)))) > 1
    if scattered:
        covering[SKILLS_TAG] = str(len(chosen))

    def cover(job: str, record_missing: Callable[..., None]) -> list[str]:
        """Run the job over the chosen skills; a run that breaks off leaves none of them without an outcome."""
        if not chosen:
            return []
        with seeing_only(instance, skill_partitions.name, chosen) if scattered else nullcontext():
            done = run(job, covering)
        if not done.success:
            if lost := _what_was_lost(done):
                raise lost(f"{_cause(done)}; what was stored until then stands")
            told = {"keys": chosen, "as_of": as_of, "reason": _cause(done), "run_id": done.run_id}
            database.run(partial(record_missing, **told))
        return [done.run_id]

    run_ids = cover(calibration_job.name, _record_the_rest)
    started = time.perf_counter()
    item_runs = cover(nightly_irt_job.name, _record_missing_items) if with_items else []
    seconds = time.perf_counter() - started
    summed_up = run(night_summary_job.name, {})
    if not summed_up.success:
        # The night stands without its summary.
        log.warning("the night's summary could not be made: %s", _cause(summed_up))
    return NightRun(
        outcomes=database.run(
            partial(_outcomes, keys=skills or present, as_of=as_of, run_ids=[first.run_id, *run_ids])
        ),
        result=database.run(partial(night_result, night=as_of.date(), run_ids=run_ids)),
        items=database.run(partial(items_of_runs, run_ids=item_runs)) if with_items else None,
        items_seconds=seconds,
    )


def _outcomes(
    connection: Connection, keys: Collection[str], as_of: dt.datetime, run_ids: Sequence[str]
) -> list[Outcome]:
    """One for each key, and for each that Dagster has refused.

    The ledger has one place a night and skill: where another run has taken it, that one was faster.
    """
    own = {outcome.skill_id: outcome for outcome in of_runs(connection, run_ids)}
    missing = {key: Outcome(key, as_of, "overtaken", overtaken()) for key in set(keys) - set(own)}
    return [outcome for _, outcome in sorted((own | missing).items())]


def _record_the_rest(
    connection: Connection, keys: Sequence[str], as_of: dt.datetime, reason: str, run_id: str
) -> None:
    """A run that broke off leaves no skill without an outcome."""
    known = {outcome.skill_id for outcome in of_runs(connection, [run_id])}
    # Sorted, or two nights that break off at once lock each other out.
    for key in sorted(set(keys) - known):
        record(connection, Outcome(key, as_of, "failed", reason), run_id)


def _record_missing_items(
    connection: Connection, keys: Sequence[str], as_of: dt.datetime, reason: str, run_id: str
) -> None:
    """The same for the items."""
    known = {outcome.skill_id for outcome in items_of_runs(connection, [run_id])}
    for key in sorted(set(keys) - known):
        record_items(connection, ItemsOutcome(key, as_of, "failed", reason), run_id)


def _cause(result: dg.ExecuteInProcessResult) -> str:
    error = _root(result)
    if error is None:
        return f"run {result.run_id} failed"
    return error.message.strip().splitlines()[0].removeprefix(f"{BktError.__module__}.")


def _what_was_lost(result: dg.ExecuteInProcessResult) -> type[BktError] | None:
    """The error that every other run of the night would meet too, if it is one."""
    error = _root(result)
    lost = {kind.__name__: kind for kind in (DatabaseUnavailable, WindowStoreUnavailable)}
    return lost.get(error.cls_name) if error is not None else None


def _root(result: dg.ExecuteInProcessResult) -> Any:
    """The error below the errors that Dagster wraps it in."""
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            if error is not None:
                return error
    return None
