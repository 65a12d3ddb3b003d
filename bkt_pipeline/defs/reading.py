"""How a run reads the windows of its skills: in batches, with the skills that cannot be read recorded as failed."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.skills import SkillOptions
from bkt_pipeline.calibration.window_checks import WindowCounts
from bkt_pipeline.db.attempts import read_windows
from bkt_pipeline.db.database import Database
from bkt_pipeline.db.isolation import record_failed
from bkt_pipeline.db.ledger import SkillOutcome
from bkt_pipeline.db.left_out import left_out
from bkt_pipeline.db.partition_keys import NO_SKILL, unknown_keys
from bkt_pipeline.defs.progress import Progress, batches
from bkt_pipeline.errors import WindowUnusable
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.order import may_hold_repeats, tied_answers

READ_BATCH = 200  # skills whose attempts are in memory as rows at a time


@dataclass(frozen=True)
class WindowReader:
    """Reads windows for one run."""

    database: Database
    as_of: dt.datetime
    options: SkillOptions
    run_id: str

    def read(self, keys: Sequence[str], progress: Progress) -> dict[str, AttemptWindow]:
        """The window of each skill that can be read; the others are recorded as failed, with the reason."""
        source = self.database.platform
        unknown = set(self.database.run(partial(unknown_keys, source=source, keys=keys)))
        self._fail(dict.fromkeys(sorted(unknown), NO_SKILL))
        windows: dict[str, AttemptWindow] = {}
        pieces = batches([key for key in keys if key not in unknown], READ_BATCH)
        for some in progress.track("reading", pieces, len(pieces)):
            found = self.database.run(
                partial(
                    read_windows,
                    source=source,
                    keys=some,
                    as_of=self.as_of,
                    window_days=self.options.window_days,
                    sequences=self.options.sequences,
                )
            )
            windows |= {key: window for key, window in found.items() if isinstance(window, AttemptWindow)}
            errors = {key: error for key, error in found.items() if isinstance(error, WindowUnusable)}
            self._fail({key: f"its window was not read: {error}" for key, error in errors.items()})
        return windows

    def count(self, windows: Mapping[str, AttemptWindow]) -> dict[str, WindowCounts]:
        """What the windows leave out, and how much of the order in them is a guess."""
        source = self.database.platform
        suspects = [key for key, window in windows.items() if may_hold_repeats(window)]
        missing = self.database.run(
            partial(
                left_out,
                source=source,
                keys=list(windows),
                as_of=self.as_of,
                window_days=self.options.window_days,
                repeats_in=suspects,
            )
        )
        return {
            key: WindowCounts(
                in_future=missing.in_future.get(key, 0),
                without_student=missing.without_student.get(key, 0),
                repeats=missing.repeats.get(key, 0),
                tied=0 if source.order_is_total else tied_answers(window),
            )
            for key, window in windows.items()
        }

    def _fail(self, reasons: Mapping[str, str]) -> None:
        if reasons:
            rows = [SkillOutcome(key, self.as_of, Outcome.FAILED, why) for key, why in reasons.items()]
            self.database.run(
                partial(record_failed, rows=rows, run_id=self.run_id, rehearsal=not self.options.publish)
            )
