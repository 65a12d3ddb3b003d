"""Stores the verdicts of a run in batches, and reads them back as the backend sees them.

Each run has one object, bound to its database, as_of and id. A batch is one transaction. If the database refuses it,
its skills are stored one by one, so that one bad skill does not affect the others.
"""

import datetime as dt
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from bkt_pipeline import __version__
from bkt_pipeline.calibration import item_checks, skill_checks
from bkt_pipeline.calibration.baseline import History
from bkt_pipeline.calibration.items import FULLER_ROWS, ItemsVerdict
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.skills import SkillVerdict, overtaken, thin
from bkt_pipeline.db.database import Database
from bkt_pipeline.db.fits import earlier_fits, school_prior
from bkt_pipeline.db.items import item_rows, platform_rows, store_items
from bkt_pipeline.db.ledger import ItemsOutcome, LedgerRow, SkillOutcome, item_prior, outcomes_of_runs, record
from bkt_pipeline.db.params import current_since, kept_from_thin_fits, publish, rows_of_run
from bkt_pipeline.db.priors import store_prior
from bkt_pipeline.db.rehearsals import store_rehearsed, store_rehearsed_items
from bkt_pipeline.db.retry import reason
from bkt_pipeline.db.upsert import lock_skills
from bkt_pipeline.errors import DatabaseUnavailable
from bkt_pipeline.model.bkt.prior import SchoolPrior
from bkt_pipeline.model.irt.items import ItemModel
from bkt_pipeline.model.irt.prior import ItemPrior

T = TypeVar("T")
V = TypeVar("V", SkillVerdict, ItemsVerdict)

BATCH_SIZE = 200  # skills stored in one transaction

log = logging.getLogger("bkt_pipeline")


class Verdicts(ABC, Generic[V]):
    """Stores the verdicts of one run, and returns them as they were finally stored.

    Those of a rehearsal are stored apart, and nothing is published.
    """

    def __init__(
        self, database: Database, as_of: dt.datetime, run_id: str, *, rehearsal: bool = False
    ) -> None:
        self.database = database
        self.as_of = as_of
        self.run_id = run_id
        self.rehearsal = rehearsal

    @abstractmethod
    def _publish(self, connection: Connection, verdicts: Sequence[V]) -> list[V]:
        """Write the results; returns the verdicts, changed to overtaken where newer results exist."""

    @abstractmethod
    def _ledger_row(self, verdict: V) -> LedgerRow:
        """The verdict as a row of the ledger."""

    @abstractmethod
    def read_back(self, verdicts: Sequence[V]) -> list[V]:
        """The verdicts, with a finding on whether the stored rows equal what was calibrated."""

    def store(self, verdicts: Sequence[V]) -> list[V]:
        """Store verdicts, results and ledger together; returns the verdicts as they were finally stored."""
        ordered = sorted(verdicts, key=lambda verdict: verdict.skill_id)
        try:
            return self.database.run(partial(self._store, verdicts=ordered))
        except DatabaseUnavailable:
            # Every other skill would only spend the same time waiting.
            raise
        except Exception as error:
            log.debug("a batch of %d skills is stored one by one: %s", len(ordered), reason(error))
        return [self._store_alone(verdict) for verdict in ordered]

    def _store(self, connection: Connection, verdicts: Sequence[V]) -> list[V]:
        final = self._publish(connection, verdicts)
        rows = [self._ledger_row(verdict) for verdict in final]
        record(connection, rows, self.run_id, rehearsal=self.rehearsal)
        return final

    def _store_alone(self, verdict: V) -> V:
        try:
            return self.database.run(partial(self._store, verdicts=[verdict]))[0]
        except DatabaseUnavailable:
            raise
        except Exception as error:
            failed = verdict.without_result(Outcome.FAILED, f"it was not stored: {reason(error)}")
        try:
            row = self._ledger_row(failed)
            self.database.run(
                lambda connection: record(connection, [row], self.run_id, rehearsal=self.rehearsal)
            )
        except DatabaseUnavailable:
            raise
        except Exception as error:
            # The run still reports the skill as failed; only its row in the ledger is missing.
            log.warning("the ledger could not record a failed skill: %s", reason(error))
        return failed


class SkillVerdicts(Verdicts[SkillVerdict]):
    """The verdicts on skills: `skill_bkt_params`, the fits of the night and the ledger."""

    def history(self, keys: Sequence[str], nights: int) -> dict[str, History]:
        """The earlier nights of each skill; a new skill is left out."""
        read = partial(earlier_fits, night=self.as_of.astimezone(dt.UTC).date(), nights=nights)
        found: dict[str, History] = {}
        # In batches, so that only some of the nights' rows are in memory at a time.
        for start in range(0, len(keys), BATCH_SIZE):
            found |= self.database.run(partial(read, keys=keys[start : start + BATCH_SIZE]))
        return found

    def school_prior(self) -> SchoolPrior:
        """What the school's skills show together, learned from the nights before this one."""
        night = self.as_of.astimezone(dt.UTC).date()
        return self.database.run(partial(school_prior, night=night))

    def learn_prior(self) -> None:
        """Store what the school's skills show after this run, for skills that have no parameters of their own."""
        try:
            self.database.run(partial(store_prior, as_of=self.as_of))
        except DatabaseUnavailable:
            raise
        except Exception as error:
            # The parameters of this run are stored, and the prior of an earlier night remains.
            log.warning("the school's prior could not be stored: %s", reason(error))

    def failures(self) -> dict[str, str]:
        """The skills that failed earlier in this run, with the reason."""
        outcomes = self.database.run(partial(outcomes_of_runs, kind=SkillOutcome, run_ids=[self.run_id]))
        return {o.skill_id: o.reason or "" for o in outcomes if o.outcome is Outcome.FAILED}

    def current_since(self, keys: Sequence[str]) -> dict[str, dt.datetime | None]:
        """When each skill's stored row was calibrated, for skills that have one; None if it never was."""
        return read_each(self.database, keys, partial(current_since, platform=self.database.platform))

    def _publish(self, connection: Connection, verdicts: Sequence[SkillVerdict]) -> list[SkillVerdict]:
        platform = self.database.platform
        fits = [verdict.fit for verdict in verdicts if verdict.fit is not None]
        lock_skills(connection, [fit.skill_id for fit in fits])
        if self.rehearsal:
            keys = [verdict.skill_id for verdict in verdicts]
            store_rehearsed(connection, keys, fits, self.as_of, self.run_id, __version__)
            return list(verdicts)
        kept = kept_from_thin_fits(connection, platform, fits)
        full = [fit for fit in fits if fit.skill_id not in kept]
        written = publish(connection, platform, full, self.run_id, __version__) if full else ()

        def final(verdict: SkillVerdict) -> SkillVerdict:
            if verdict.fit is None or verdict.skill_id in written:
                return verdict
            if verdict.skill_id in kept:
                return verdict.without_result(Outcome.SKIPPED, thin(verdict.fit.n_attempts))
            return verdict.without_result(Outcome.OVERTAKEN, overtaken())

        return [final(verdict) for verdict in verdicts]

    def _ledger_row(self, verdict: SkillVerdict) -> LedgerRow:
        return SkillOutcome.of(verdict, self.as_of)

    def read_back(self, verdicts: Sequence[SkillVerdict]) -> list[SkillVerdict]:
        keys = [verdict.skill_id for verdict in verdicts if verdict.fit]
        read = partial(rows_of_run, platform=self.database.platform, run_id=self.run_id)
        rows = read_each(self.database, keys, read)
        return [
            replace(
                verdict,
                findings=(
                    *verdict.findings,
                    skill_checks.stored_row_matches(verdict.fit, rows[verdict.skill_id]),
                ),
            )
            if verdict.fit and verdict.skill_id in rows
            else verdict
            for verdict in verdicts
        ]


class ItemVerdicts(Verdicts[ItemsVerdict]):
    """The verdicts on skills' items: `item_irt_params`, the platform's items if they are updated, and the ledger."""

    def __init__(
        self,
        database: Database,
        as_of: dt.datetime,
        run_id: str,
        *,
        item_model: ItemModel,
        update_platform: bool,
        rehearsal: bool = False,
    ) -> None:
        super().__init__(database, as_of, run_id, rehearsal=rehearsal)
        self.item_model = item_model
        self.update_platform = update_platform

    def school_prior(self) -> ItemPrior:
        """What the school's items show together, learned from the nights before this one."""
        night = self.as_of.astimezone(dt.UTC).date()
        return self.database.run(partial(item_prior, night=night))

    def _publish(self, connection: Connection, verdicts: Sequence[ItemsVerdict]) -> list[ItemsVerdict]:
        skills = [verdict.items for verdict in verdicts if verdict.items is not None]
        if self.rehearsal:
            keys = [verdict.skill_id for verdict in verdicts]
            store_rehearsed_items(connection, keys, skills, self.as_of, self.run_id)
            return list(verdicts)
        written = store_items(
            connection,
            self.database.platform,
            skills,
            self.as_of,
            self.run_id,
            platform_model=self.item_model if self.update_platform else None,
        )
        skills_written = {skill for skill, _ in written}

        def final(verdict: ItemsVerdict) -> ItemsVerdict:
            if verdict.outcome is not Outcome.CALIBRATED or verdict.skill_id in skills_written:
                return verdict
            if verdict.is_thin:
                return replace(verdict, outcome=Outcome.SKIPPED, reason=FULLER_ROWS)
            return verdict.without_result(Outcome.OVERTAKEN, overtaken())

        return [final(verdict) for verdict in verdicts]

    def _ledger_row(self, verdict: ItemsVerdict) -> LedgerRow:
        return ItemsOutcome.of(verdict, self.as_of)

    def read_back(self, verdicts: Sequence[ItemsVerdict]) -> list[ItemsVerdict]:
        keys = [verdict.skill_id for verdict in verdicts if verdict.outcome is Outcome.CALIBRATED]
        stored = read_each(self.database, keys, partial(item_rows, run_id=self.run_id))
        shown: Mapping[str, Any] | None = None
        if self.update_platform:
            shown = read_each(self.database, keys, partial(platform_rows, source=self.database.platform))
        return [
            replace(
                verdict,
                findings=(
                    *verdict.findings,
                    item_checks.stored_row_matches(
                        verdict.items,
                        stored[verdict.skill_id],
                        None if shown is None else shown.get(verdict.skill_id, {}),
                        self.item_model,
                    ),
                ),
            )
            if verdict.outcome is Outcome.CALIBRATED and verdict.items and verdict.skill_id in stored
            else verdict
            for verdict in verdicts
        ]


def read_each(database: Database, keys: Sequence[str], read: Callable[..., dict[str, T]]) -> dict[str, T]:
    """Call `read(connection, keys=…)` for all skills at once, or for each alone if that fails.

    Used for values that are only reported: a skill that cannot be read is logged and left out.
    """
    try:
        return database.run(partial(read, keys=keys))
    except DatabaseUnavailable:
        raise
    except Exception as error:
        if len(keys) == 1:
            log.warning("the stored row of skill %s cannot be read: %s", keys[0], reason(error))
            return {}
    found: dict[str, T] = {}
    for key in keys:
        found |= read_each(database, [key], read)
    return found
