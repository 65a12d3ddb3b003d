"""Runs one night through Dagster in this process: the active skills, their calibration, their items."""

import datetime as dt
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import dagster as dg
from sqlalchemy import Connection

from bkt_pipeline.calibration.comparison import compare_estimators, item_sentence
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.skills import overtaken
from bkt_pipeline.db.clock import refuse_future
from bkt_pipeline.db.database import Database
from bkt_pipeline.db.fits import scores_of
from bkt_pipeline.db.ledger import (
    ItemsOutcome,
    LedgerRow,
    SkillOutcome,
    outcomes_of_runs,
    record,
)
from bkt_pipeline.db.names import read_names
from bkt_pipeline.db.nights import compare_night, read_night
from bkt_pipeline.db.params import night_result
from bkt_pipeline.db.rehearsals import fits_of_rehearsal, rehearsed_result
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.jobs import ACTIVE_SKILLS_JOB, CALIBRATION_JOB, ITEMS_JOB, SUMMARY_JOB
from bkt_pipeline.defs.messages import at_once
from bkt_pipeline.defs.night_counts import NOT_DELIVERED, of_summary, sentence
from bkt_pipeline.defs.night_warning import night_warning
from bkt_pipeline.defs.partitions import range_tags, ranges, store_order
from bkt_pipeline.defs.registration import skill_keys
from bkt_pipeline.defs.resources import CalibrationSettings
from bkt_pipeline.defs.run_errors import cause, was_interrupted, what_was_lost
from bkt_pipeline.defs.tags import COMMAND_TAGS, PART_TAG, night_tags
from bkt_pipeline.errors import BktError, InvalidSettings
from bkt_pipeline.instance.runs import end_dead_runs, process_tag
from bkt_pipeline.model.irt.comparison import pool_comparisons

log = logging.getLogger("bkt_pipeline")

Kind = TypeVar("Kind", bound=LedgerRow)


class NightFailed(BktError):
    """The night could not start because the active skills could not be read."""


@dataclass(frozen=True)
class NightRun:
    """The result of a night.

    Attributes
    ----------
    outcomes
        One for each skill of the night.
    result
        The parameters of the calibrated skills, as `night_result` returns them.
    items
        The outcome of each skill's items; None if the items were skipped.
    items_seconds
        Duration of the item calibration in seconds.
    failed_runs
        The ids of the runs that did not succeed, with the cause of each.
    warning
        What is wrong with the night as a whole, if anything.
    comparison
        Which estimator predicts this school best, in one sentence; None without held-out students.
    item_comparison
        The same of the item models.
    left_out
        Which attempts the windows left out, or hold in doubt, in one sentence; None if there are none.
    not_delivered
        Who did not get the night's message, and why; None if everybody got it.
    names
        The names of the skills that have one.
    """

    outcomes: list[SkillOutcome]
    result: dict[str, Any]
    items: list[ItemsOutcome] | None
    items_seconds: float
    failed_runs: dict[str, str]
    warning: str | None = None
    comparison: str | None = None
    item_comparison: str | None = None
    left_out: str | None = None
    not_delivered: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def any_failed(self) -> bool:
        """Whether any skill failed, or any skill's items."""
        return any(row.outcome is Outcome.FAILED for row in (*self.outcomes, *(self.items or ())))


class _Runner:
    """Runs the night's jobs in this process."""

    def __init__(
        self,
        definitions: dg.Definitions,
        instance: dg.DagsterInstance,
        installation: Installation,
        as_of: dt.datetime,
        *,
        log_events: bool,
        settings: Mapping[str, Any],
    ) -> None:
        self.definitions, self.instance, self.as_of = definitions, instance, as_of
        self.installation = installation
        self.tags = night_tags(as_of) | COMMAND_TAGS | process_tag()
        level = "DEBUG" if log_events else "CRITICAL"
        self.config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": level}}}}
        if settings:
            self.config["resources"] = {installation.name("settings"): {"config": dict(settings)}}
        self.failed_runs: dict[str, str] = {}

    def run(self, job: str, tags: dict[str, str] | None = None) -> dg.ExecuteInProcessResult:
        """Run the job once."""
        done = self.definitions.resolve_job_def(self.installation.name(job)).execute_in_process(
            run_config=self.config,
            instance=self.instance,
            tags=self.tags | (tags or {}),
            raise_on_error=False,
        )
        if not done.success:
            self.failed_runs[done.run_id] = cause(done)
        return done

    def cover(
        self, job: str, keys: Sequence[str], present: Sequence[str], kind: type[LedgerRow], database: Database
    ) -> list[str]:
        """Run the job over the skills, one run for each range of adjacent skills; returns the ids of the runs.

        Skills that a failed run left without an outcome are recorded as failed.
        """
        run_ids = []
        for first, last in ranges(keys, present, at_most=max(len(present), 1)):
            done = self.run(job, range_tags(first, last))
            run_ids.append(done.run_id)
            if done.success:
                continue
            why = cause(done)
            if was_interrupted(done):
                raise KeyboardInterrupt
            if lost := what_was_lost(done):
                raise lost(f"{why}; everything stored so far is kept")
            some = present[present.index(first) : present.index(last) + 1]
            rows = [kind(key, self.as_of, Outcome.FAILED, why) for key in some]
            database.run(partial(_record_missing, rows=rows, run_id=done.run_id))
        return run_ids


def run_night(
    database: Database,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    as_of: dt.datetime,
    skills: Collection[str] = (),
    *,
    log_events: bool = False,
    with_items: bool = True,
    settings: Mapping[str, Any] | None = None,
    installation: Installation | None = None,
) -> NightRun:
    """Calibrate the `skills` (default: all active ones) as of `as_of`, then their items.

    `settings` are those of `CalibrationSettings` that differ from the environment's. A rehearsal (`publish` False)
    has no summary. The `definitions` may hold several installations; without one of them, the night is that of the
    environment.

    Raises
    ------
    NightFailed
        The active skills could not be read.
    InvalidSettings
        `as_of` is in the future, or one of the `skills` is not an active skill.
    DatabaseUnavailable, WindowStoreUnavailable
        The database or the window store was lost during the night; everything stored until then is kept.
    """
    database.run(partial(refuse_future, as_of=as_of))
    rehearsal = not (settings or {}).get("publish", True)
    installation = installation or Installation.named()
    runner = _Runner(
        definitions, instance, installation, as_of, log_events=log_events, settings=settings or {}
    )
    if skills:
        runner.tags[PART_TAG] = "true"
    end_dead_runs(instance, installation.tags)
    first = runner.run(ACTIVE_SKILLS_JOB)
    if not first.success and was_interrupted(first):
        raise KeyboardInterrupt
    if not first.success:
        raise NightFailed(f"the active skills could not be read: {cause(first)}")
    present, known = store_order(instance, installation), skill_keys(instance, installation)
    if unknown := sorted(set(skills) - set(known)):
        raise InvalidSettings(f"no active skill has the id {', '.join(unknown)}; skills.id lists them")
    chosen = [key for key in known if key in skills] if skills else known
    window_days = CalibrationSettings(**(settings or {})).options.window_days
    run_ids = runner.cover(CALIBRATION_JOB, chosen, present, SkillOutcome, database)
    started = time.perf_counter()
    item_runs = []
    if with_items:
        item_runs = runner.cover(ITEMS_JOB, chosen, present, ItemsOutcome, database)
    seconds = time.perf_counter() - started
    summary = None if rehearsal else runner.run(SUMMARY_JOB)
    if summary and not summary.success and was_interrupted(summary):
        raise KeyboardInterrupt
    if summary and not summary.success:
        # Without its summary the night is still complete.
        log.warning("the night's summary failed: %s", cause(summary))
        at_once(instance, installation, summary.dagster_run, runner.tags, "its summary", "see the run's log")
    page = of_summary(summary) if summary else {}
    of_night = partial(_outcomes, keys=chosen, as_of=as_of)
    items = database.run(partial(of_night, kind=ItemsOutcome, run_ids=item_runs)) if with_items else None
    outcomes = database.run(partial(of_night, kind=SkillOutcome, run_ids=[first.run_id, *run_ids]))
    return NightRun(
        outcomes=outcomes,
        result=database.run(
            partial(rehearsed_result, run_ids=run_ids)
            if rehearsal
            else partial(night_result, night=as_of.date(), run_ids=run_ids)
        ),
        items=items,
        items_seconds=seconds,
        failed_runs=runner.failed_runs,
        warning=night_warning(database, outcomes, as_of, window_days, whole=not skills),
        comparison=_comparison(database, as_of.date(), set(chosen), run_ids if rehearsal else None),
        item_comparison=_item_comparison(items or ()),
        left_out=sentence(page),
        not_delivered=page.get(NOT_DELIVERED),
        names=database.run(partial(read_names, source=database.platform)),
    )


def _comparison(
    database: Database, night: dt.date, keys: Collection[str], rehearsed_by: Sequence[str] | None
) -> str | None:
    """Which estimator predicts the skills of the night, or of the rehearsal, best, in one sentence."""
    if rehearsed_by is not None:
        fits = list(database.run(partial(fits_of_rehearsal, run_ids=rehearsed_by)).values())
        found = compare_estimators([scores_of(fit) for fit in fits], fits[0]["estimator"]) if fits else None
        return found.sentence if found else None
    skills = [skill for skill in database.run(partial(read_night, night=night)) if skill.skill_id in keys]
    compared = compare_night(skills)
    return compared.sentence if compared else None


def _item_comparison(items: Sequence[ItemsOutcome]) -> str | None:
    """Which item model predicts the night's items best, in one sentence."""
    compared = pool_comparisons(outcome.comparison for outcome in items if outcome.comparison)
    return item_sentence(compared) if compared else None


def _outcomes(
    connection: Connection,
    kind: type[Kind],
    keys: Collection[str],
    as_of: dt.datetime,
    run_ids: Sequence[str],
) -> list[Kind]:
    """One outcome for each key, and one for each skill that Dagster refused as a partition key.

    The ledger has one row per night and skill. A key without an outcome of these runs was overtaken: only newer
    published parameters prevent a run from recording its outcome.
    """
    own = {outcome.skill_id: outcome for outcome in outcomes_of_runs(connection, kind, run_ids)}
    missing = {key: kind(key, as_of, Outcome.OVERTAKEN, overtaken()) for key in set(keys) - set(own)}
    return [outcome for _, outcome in sorted((own | missing).items())]


def _record_missing(connection: Connection, rows: Sequence[Kind], run_id: str) -> None:
    """Record the rows of the skills for which the run has recorded no outcome."""
    known = {outcome.skill_id for outcome in outcomes_of_runs(connection, type(rows[0]), [run_id])}
    record(connection, [row for row in rows if row.skill_id not in known], run_id)
