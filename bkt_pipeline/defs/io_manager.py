"""One way to store and load a partition's value: Postgres, one transaction a partition; windows, where they are kept."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import dagster as dg
from sqlalchemy import Connection

from bkt_pipeline import __version__
from bkt_pipeline.calibration.baseline import History
from bkt_pipeline.calibration.item_checks import rows_match
from bkt_pipeline.calibration.items import ItemsVerdict
from bkt_pipeline.calibration.rules import HISTORY_NIGHTS
from bkt_pipeline.calibration.skill_checks import row_matches
from bkt_pipeline.calibration.skills import Verdict, overtaken
from bkt_pipeline.db.fits import earlier_fits, load_fits
from bkt_pipeline.db.items import (
    ItemsOutcome,
    item_rows,
    load_items,
    platform_columns,
    platform_rows,
    record_items,
    store_items,
)
from bkt_pipeline.db.ledger import Outcome, of_runs, record
from bkt_pipeline.db.params import publish, rows_of_run, standing_since
from bkt_pipeline.db.retry import reason
from bkt_pipeline.defs.resources import PlatformDatabase
from bkt_pipeline.errors import DatabaseUnavailable, WindowOvertaken
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.fit import SkillFit
from bkt_pipeline.model.irt.fits import ItemStatus
from bkt_pipeline.model.irt.items import SkillItems
from bkt_pipeline.windows.store import window_store

T = TypeVar("T")
LOADERS = {"skill_bkt_params": load_fits, "item_irt_params": load_items}


class PostgresUpsertIOManager(dg.ConfigurableIOManager):
    """Upserts the value of each partition to Postgres, and loads them back as ``{partition key: value}``.

    An `AttemptWindow` goes to the `WindowStore`, a `SkillFit` to `skill_bkt_params`
    and, by night, to the schema `bkt_pipeline`; `SkillItems` go to the schema `bkt_pipeline` and, where
    the platform has the columns, to its `items`. The newest as_of wins: an older value never replaces a
    newer one.
    """

    database: dg.ResourceDependency[PlatformDatabase]

    def handle_output(self, context: dg.OutputContext, obj: Mapping[str, AttemptWindow]) -> None:
        """Store the windows of the run's partitions, each for itself.

        One that cannot be stored costs the others nothing: the ledger keeps that it failed and
        why, and the calibration that follows reports it.
        """
        if not obj:
            return
        database = self.database.get()
        for key, error in window_store(database.run).store(obj, context.run_id):
            if isinstance(error, WindowOvertaken):
                continue
            context.log.error("the window of skill %s was not stored: %s", key, reason(error))
            failure = Outcome(key, obj[key].as_of, "failed", f"its window was not stored: {reason(error)}")
            database.run(lambda connection, failure=failure: record(connection, failure, context.run_id))

    def load_input(
        self, context: dg.InputContext
    ) -> dict[str, AttemptWindow] | dict[str, SkillFit] | dict[str, SkillItems]:
        """The stored values of the partitions; one that was never stored is not among them."""
        keys = list(context.asset_partition_keys)
        if context.asset_key.path[-1] == "attempt_window":
            return self._load_windows(context, keys)
        load = LOADERS[context.asset_key.path[-1]]
        return self.database.get().run(lambda connection: load(connection, keys))

    def _load_windows(self, context: dg.InputContext, keys: Sequence[str]) -> dict[str, AttemptWindow]:
        windows = {}
        for key, stored in window_store(self.database.get().run).load(keys).items():
            if isinstance(stored, Exception):
                # The calibration says that it has none, and what to do.
                context.log.error("the window of skill %s cannot be read: %s", key, reason(stored))
            else:
                windows[key] = stored.window
        return windows

    def windows_are_in(self) -> str:
        """Where the windows are kept, as a person may read it."""
        return window_store(self.database.get().run).location

    def failures(self, run_id: str) -> dict[str, str]:
        """The skills that failed earlier in this run, with the reason."""
        outcomes = self.database.get().run(lambda connection: of_runs(connection, [run_id]))
        return {o.skill_id: o.reason or "" for o in outcomes if o.outcome == "failed"}

    def conclude(self, verdict: Verdict, as_of: dt.datetime, run_id: str) -> Verdict:
        """Store what became of a skill, fit and ledger in one transaction, and say what was stored in the end."""
        platform = self.database.get().platform

        def recorded(connection: Connection, final: Verdict) -> Verdict:
            record(connection, outcome_of(final, as_of), run_id)
            return final

        def store(connection: Connection) -> Verdict:
            final = verdict
            if verdict.fit is not None and not publish(
                connection, platform, verdict.fit, run_id, __version__
            ):
                final = replace(verdict, outcome="overtaken", fit=None, reason=overtaken())
            return recorded(connection, final)

        def refused(connection: Connection, why: str) -> Verdict:
            failed = replace(verdict, outcome="failed", fit=None, reason=f"it was not stored: {why}")
            return recorded(connection, failed)

        return self._store_or_record(store, refused)

    def _store_or_record(
        self, store: Callable[[Connection], T], refused: Callable[[Connection, str], T]
    ) -> T:
        """Store in one transaction; where the database refuses it, record that, and why, in another."""
        database = self.database.get()
        try:
            return database.run(store)
        except DatabaseUnavailable:
            # Every other skill would only wait as long again, and there is nowhere to record it.
            raise
        except Exception as error:
            why = reason(error)
        return database.run(lambda connection: refused(connection, why))

    def history(self, keys: Sequence[str], as_of: dt.datetime) -> dict[str, History]:
        """What the nights before that of `as_of` left of these skills; a new skill has none."""
        night = as_of.astimezone(dt.UTC).date()
        found = self.database.get().run(
            lambda connection: earlier_fits(connection, keys, night, HISTORY_NIGHTS)
        )
        return {key: History(fits.per_attempt, fits.params) for key, fits in found.items()}

    def read_back(self, verdicts: Sequence[Verdict], run_id: str) -> list[Verdict]:
        """The verdicts with what the backend reads now compared to each fit that was published."""
        database = self.database.get()
        keys = [verdict.skill_id for verdict in verdicts if verdict.fit]
        rows = database.run(lambda connection: rows_of_run(connection, database.platform, keys, run_id))
        return [
            replace(verdict, findings=(*verdict.findings, row_matches(verdict.fit, rows[verdict.skill_id])))
            if verdict.fit and verdict.skill_id in rows
            else verdict
            for verdict in verdicts
        ]

    def standing_since(self, keys: Sequence[str]) -> dict[str, dt.datetime]:
        """When the rows of these skills were calibrated, of those that have one."""
        database = self.database.get()
        return database.run(lambda connection: standing_since(connection, database.platform, keys))

    def item_columns(self) -> dict[str, bool]:
        """The platform's own columns for item parameters, and whether we may write each; empty where it has none."""
        database = self.database.get()
        return database.run(lambda connection: platform_columns(connection, database.platform))

    def conclude_items(
        self, verdict: ItemsVerdict, as_of: dt.datetime, run_id: str, *, update_platform: bool
    ) -> ItemsVerdict:
        """Store what became of a skill's items, rows and ledger in one transaction; say what was stored in the end."""
        platform = self.database.get().platform

        def recorded(connection: Connection, final: ItemsVerdict) -> ItemsVerdict:
            record_items(connection, items_outcome_of(final, as_of), run_id)
            return final

        def store(connection: Connection) -> ItemsVerdict:
            final = verdict
            if verdict.items is not None:
                written = store_items(
                    connection, platform, verdict.items, as_of, run_id, update_platform=update_platform
                )
                if verdict.outcome == "calibrated" and not written:
                    final = replace(verdict, outcome="overtaken", reason=overtaken())
            return recorded(connection, final)

        def refused(connection: Connection, why: str) -> ItemsVerdict:
            said = f"its items were not stored: {why}"
            return recorded(connection, replace(verdict, outcome="failed", items=None, reason=said))

        return self._store_or_record(store, refused)

    def read_items_back(
        self, verdicts: Sequence[ItemsVerdict], run_id: str, *, update_platform: bool
    ) -> list[ItemsVerdict]:
        """The verdicts with what the tables hold now compared to the items that were calibrated."""
        database = self.database.get()
        keys = [verdict.skill_id for verdict in verdicts if verdict.outcome == "calibrated"]
        stored = database.run(lambda connection: item_rows(connection, keys, run_id))
        shown = None
        if update_platform:
            shown = database.run(lambda connection: platform_rows(connection, database.platform, keys))
        return [
            replace(verdict, findings=(*verdict.findings, rows_match(verdict.items, stored, shown)))
            if verdict.outcome == "calibrated" and verdict.items is not None
            else verdict
            for verdict in verdicts
        ]


def items_outcome_of(verdict: ItemsVerdict, as_of: dt.datetime) -> ItemsOutcome:
    """The verdict as the ledger of the items keeps it."""
    return ItemsOutcome(
        skill_id=verdict.skill_id,
        as_of=as_of,
        outcome=verdict.outcome,
        reason=verdict.reason,
        **{str(status): verdict.count(status) for status in ItemStatus},
        attempts=verdict.answers,
        log_likelihood=verdict.log_likelihood,
    )


def outcome_of(verdict: Verdict, as_of: dt.datetime) -> Outcome:
    """The verdict as the ledger keeps it."""
    window, fit = verdict.window, verdict.fit
    return Outcome(
        skill_id=verdict.skill_id,
        as_of=fit.as_of if fit else as_of,
        outcome=verdict.outcome,
        reason=verdict.reason,
        attempts=window.n_attempts if window else None,
        students=window.n_students if window else None,
        ungraded=window.ungraded if window else None,
        log_likelihood=fit.published.log_likelihood if fit else None,
        seconds=fit.seconds if fit else None,
    )
