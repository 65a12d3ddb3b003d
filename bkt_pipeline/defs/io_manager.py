"""Stores and loads the values of partitions: windows in the window store, fits and items in Postgres."""

from collections.abc import Mapping, Sequence
from functools import partial

import dagster as dg
from pydantic import PrivateAttr

from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.db.fits import load_fits
from bkt_pipeline.db.items import load_items
from bkt_pipeline.db.ledger import SkillOutcome, record
from bkt_pipeline.db.retry import reason
from bkt_pipeline.defs.resources import PlatformDatabase
from bkt_pipeline.errors import WindowOvertaken
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.fit import SkillFit
from bkt_pipeline.model.irt.items import SkillItems
from bkt_pipeline.windows.store import window_store


class RehearsedWindows(dict[str, AttemptWindow]):
    """The windows of a rehearsal: handed on within the run, and never stored."""


class PostgresUpsertIOManager(dg.ConfigurableIOManager):
    """Stores the values of a run's partitions, and loads them as ``{partition key: value}``.

    Windows go to the window store. The assets `skill_bkt_params` and `item_irt_params` store each skill before they
    report it (`db/verdicts.py`), so their outputs are empty. Within the run that stored them, windows are passed on
    in memory, so a run never calibrates from a window that another run has stored in the meantime.
    """

    database: dg.ResourceDependency[PlatformDatabase]
    _stored: dict[str, dict[str, AttemptWindow]] = PrivateAttr(default_factory=dict)

    def handle_output(self, context: dg.OutputContext, obj: Mapping[str, AttemptWindow]) -> None:
        """Store the windows of the run's partitions.

        A window that cannot be stored does not affect the others: the ledger records the failure and its reason, and
        the calibration downstream reports it.
        """
        if not obj:
            return
        if isinstance(obj, RehearsedWindows):
            self._stored = {context.run_id: obj}
            return
        database = self.database.get()
        failed = {}
        for key, error in window_store(database.run, database.url_variable).store(obj, context.run_id):
            if isinstance(error, WindowOvertaken):
                continue
            context.log.error("the window of skill %s was not stored: %s", key, reason(error))
            why = f"its window was not stored: {reason(error)}"
            failed[key] = SkillOutcome(key, obj[key].as_of, Outcome.FAILED, why)
        if failed:
            database.run(partial(record, rows=list(failed.values()), run_id=context.run_id))
        self._stored = {context.run_id: {key: obj[key] for key in obj if key not in failed}}

    def load_input(
        self, context: dg.InputContext
    ) -> dict[str, AttemptWindow] | dict[str, SkillFit] | dict[str, SkillItems]:
        """The values of the partitions; a partition that was never stored is left out."""
        keys = list(context.asset_partition_keys)
        if context.asset_key.path[-1] == "attempt_window":
            return self._load_windows(context, keys)
        database = self.database.get()
        if context.asset_key.path[-1] == "skill_bkt_params":
            return database.run(partial(load_fits, keys=keys))
        return database.run(partial(load_items, keys=keys))

    def _load_windows(self, context: dg.InputContext, keys: Sequence[str]) -> dict[str, AttemptWindow]:
        upstream = context.upstream_output
        handed_on = self._stored.get(upstream.run_id, {}) if upstream is not None else {}
        windows = {key: handed_on[key] for key in keys if key in handed_on}
        missing = [key for key in keys if key not in windows]
        database = self.database.get()
        loaded = window_store(database.run, database.url_variable).load(missing) if missing else {}
        for key, stored in loaded.items():
            if isinstance(stored, Exception):
                # The calibration then reports that the skill has no window, and what to do.
                context.log.error("the window of skill %s cannot be read: %s", key, reason(stored))
            else:
                windows[key] = stored.window
        return windows
