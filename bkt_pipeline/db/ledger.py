"""The two ledgers: the outcome of each skill, and of each skill's items, in each night."""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, RowMapping, Table, func, select

from bkt_pipeline.calibration.items import ItemsVerdict
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.skills import SkillVerdict
from bkt_pipeline.db.fits import readable
from bkt_pipeline.db.rehearsals import KEYS, rehearsed_items, rehearsed_skills
from bkt_pipeline.db.schema import COMPARED_ITEMS, night_items, night_skills
from bkt_pipeline.db.upsert import upsert
from bkt_pipeline.model.irt.comparison import ItemComparison
from bkt_pipeline.model.irt.prior import ItemMoments, ItemPrior, learn_item_prior

Row = TypeVar("Row", bound="LedgerRow")


@dataclass(frozen=True)
class LedgerRow:
    """The columns that both ledgers share."""

    skill_id: str
    as_of: dt.datetime
    outcome: Outcome
    reason: str | None = None

    @property
    def night(self) -> dt.date:
        """UTC date of as_of."""
        return self.as_of.astimezone(dt.UTC).date()

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Build the object from a row; every reader uses this."""
        values = {field.name: row[field.name] for field in fields(cls)}
        return cls(**{**values, "outcome": Outcome(row["outcome"])})


@dataclass(frozen=True)
class SkillOutcome(LedgerRow):
    """The outcome of one skill; mirrors the table `night_skills`."""

    attempts: int | None = None
    students: int | None = None
    ungraded: int | None = None
    log_likelihood: float | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, verdict: SkillVerdict, as_of: dt.datetime) -> "SkillOutcome":
        """The verdict as a row of the ledger."""
        window, fit = verdict.window, verdict.fit
        return cls(
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


@dataclass(frozen=True)
class ItemsOutcome(LedgerRow):
    """The outcome of one skill's items; mirrors the table `night_items`."""

    calibrated: int = 0
    provisional: int = 0
    skipped: int = 0
    invalid: int = 0
    attempts: int = 0
    log_likelihood: float | None = None
    moments: tuple[float, ...] | None = None
    held_out_answers: int | None = None
    held_out_bkt: float | None = None
    held_out_success_rate: float | None = None
    held_out_two_pl: float | None = None
    held_out_offset: float | None = None

    @classmethod
    def of(cls, verdict: ItemsVerdict, as_of: dt.datetime) -> "ItemsOutcome":
        """The verdict as a row of the ledger."""
        moments = verdict.items.moments if verdict.items is not None else None
        return cls(
            skill_id=verdict.skill_id,
            as_of=as_of,
            outcome=verdict.outcome,
            reason=verdict.reason,
            **verdict.counts,
            attempts=verdict.answers,
            log_likelihood=verdict.log_likelihood,
            moments=tuple(map(float, astuple(moments))) if moments is not None and moments.n_items else None,
            **_held_out(verdict.comparison),
        )

    @property
    def comparison(self) -> ItemComparison | None:
        """How well each item model predicts held-out answers; None where no student could be held out."""
        if self.held_out_answers is None:
            return None
        return ItemComparison(
            self.held_out_answers, **{name: getattr(self, f"held_out_{name}") for name in COMPARED_ITEMS}
        )


def _held_out(compared: ItemComparison | None) -> dict[str, Any]:
    if compared is None:
        return {}
    numbers = {f"held_out_{name}": getattr(compared, name) for name in COMPARED_ITEMS}
    return {"held_out_answers": compared.n_answers, **numbers}


def _only_a_newer_calibration_stays(new: Any, stored: Any) -> Any:
    """Replace any stored outcome except a newer calibration, whose parameters are what the night published."""
    return (new.as_of >= stored.as_of) | (stored.outcome != Outcome.CALIBRATED.value)


def record(
    connection: Connection, rows: Sequence[LedgerRow], run_id: str, *, rehearsal: bool = False
) -> None:
    """Record the outcomes, either all of skills or all of items; they replace earlier ones of the same night.

    The outcomes of a rehearsal go to tables of their own.
    """
    if not rows:
        return
    upsert(
        connection,
        _ledger_of(type(rows[0]), rehearsal=rehearsal),
        [
            {**vars(row), "outcome": row.outcome.value, "night": row.night, "run_id": run_id}
            for row in sorted(rows, key=lambda row: row.skill_id)
        ],
        keys=KEYS if rehearsal else ["night", "skill_id"],
        guard=None if rehearsal else _only_a_newer_calibration_stays,
        stamp="recorded_at",
    )


def _ledger_of(kind: type[LedgerRow], *, rehearsal: bool = False) -> Table:
    if kind is SkillOutcome:
        return rehearsed_skills if rehearsal else night_skills
    return rehearsed_items if rehearsal else night_items


def outcomes_of_runs(connection: Connection, kind: type[Row], run_ids: Sequence[str]) -> list[Row]:
    """The outcomes of skills or of items that these runs recorded, those of rehearsals too, ordered by skill id."""
    tables = [_ledger_of(kind), _ledger_of(kind, rehearsal=True)]
    found = [row for table in tables for row in _read(connection, kind, table.c.run_id.in_(run_ids), table)]
    return sorted(found, key=lambda outcome: outcome.skill_id)


def items_of_night(connection: Connection, night: dt.date) -> list[ItemsOutcome]:
    """The outcomes of items in the night, ordered by skill id."""
    return _read(connection, ItemsOutcome, night_items.c.night == night)


def items_of_rehearsal(connection: Connection, as_of: dt.datetime) -> list[ItemsOutcome]:
    """The outcomes of items in the rehearsal as of `as_of`, ordered by skill id."""
    return _read(connection, ItemsOutcome, rehearsed_items.c.as_of == as_of, rehearsed_items)


def item_prior(connection: Connection, night: dt.date) -> ItemPrior:
    """The school's prior of the 2PL: learned from what each skill's items taught last before `night`."""
    ledger = night_items.c
    last = (
        select(ledger.skill_id, func.max(ledger.night).label("night"))
        .where(ledger.night < night, ledger.moments.is_not(None))
        .group_by(ledger.skill_id)
        .subquery()
    )
    rows = connection.execute(
        select(ledger.skill_id, ledger.moments).join(
            last, (last.c.skill_id == ledger.skill_id) & (last.c.night == ledger.night)
        )
    )
    return learn_item_prior(moments for _, moments in readable(rows.mappings(), _item_moments))


def _item_moments(row: RowMapping) -> ItemMoments:
    n_items, *sums = row["moments"]
    if len(sums) != 5 or not all(map(math.isfinite, (n_items, *sums))):
        raise ValueError(f"its moments are {row['moments']}")
    return ItemMoments(int(n_items), *sums)


def outcomes_since(connection: Connection, as_of: dt.datetime) -> dict[str, Outcome]:
    """The latest outcome of each skill that has one with this `as_of` or a later one."""
    rows = connection.execute(
        select(night_skills.c.skill_id, night_skills.c.outcome)
        .where(night_skills.c.night >= as_of.astimezone(dt.UTC).date(), night_skills.c.as_of >= as_of)
        .order_by(night_skills.c.as_of)
    )
    return {row.skill_id: Outcome(row.outcome) for row in rows}


def _read(connection: Connection, kind: type[Row], which: Any, table: Table | None = None) -> list[Row]:
    table = _ledger_of(kind) if table is None else table
    rows = connection.execute(
        select(*(table.c[field.name] for field in fields(kind))).where(which).order_by(table.c.skill_id)
    )
    return [kind.from_row(row) for row in rows.mappings()]
