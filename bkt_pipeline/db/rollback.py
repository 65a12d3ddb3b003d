"""Restores the parameters of an earlier night."""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ARRAY,
    Connection,
    Date,
    Row,
    Text,
    any_,
    bindparam,
    cast,
    func,
    select,
    union,
    update,
)

from bkt_pipeline.calibration.check import equal_as_stored
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.db.params import VALUES, current_values, write_rows
from bkt_pipeline.db.platform import Platform
from bkt_pipeline.db.retry import reason
from bkt_pipeline.db.schema import item_irt_params, night_skills, published_params, skill_fits
from bkt_pipeline.db.upsert import lock_skills, upsert
from bkt_pipeline.errors import InvalidSettings


@dataclass
class RolledBack:
    """The skills that were restored, already equal, without parameters that old, or refused by the table and why."""

    restored: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def roll_back(
    connection: Connection, platform: Platform, night: dt.date, skills: Collection[str] = ()
) -> RolledBack:
    """Restore `skill_bkt_params` to its state at the end of the night, for the `skills` or for all of them.

    A skill that was not calibrated that night gets the parameters of its latest calibration before it. The ledger
    records the rollback at the night whose parameters were replaced. The next night publishes again. If the table
    refuses a row, such as that of a deleted skill, the other skills are still restored.

    Raises
    ------
    InvalidSettings
        No parameters of that night or an earlier one are stored, or a skill has no parameters at all.
    """
    known = _known(connection, skills)
    lock_skills(connection, known)
    published = {
        row.skill_id: row
        for row in connection.execute(select(published_params).where(published_params.c.skill_id.in_(known)))
    }
    then = _fits_of(connection, night, known)
    if not then:
        kept = connection.execute(select(func.min(skill_fits.c.night), func.max(skill_fits.c.night))).one()
        raise InvalidSettings(
            f"no parameters of {night} or earlier are stored; "
            + (f"the stored nights are {kept[0]} to {kept[1]}" if kept[0] else "no night is stored yet")
        )
    done = RolledBack(without=sorted(set(known) - set(then)))
    now = current_values(connection, platform, sorted(then))
    for key, fit in then.items():
        gone = published.get(key)
        if gone and fit.as_of == gone.as_of and _holds(now.get(key), fit):
            done.unchanged.append(key)
            continue
        try:
            with connection.begin_nested():
                _restore(connection, platform, fit, gone)
        except Exception as error:
            done.refused[key] = reason(error)
        else:
            done.restored.append(key)
    return done


def with_items_rolled_back(connection: Connection, skills: Sequence[str]) -> list[str]:
    """The skills whose items rest on parameters that were rolled back since, so that any night may replace them."""
    items, ledger, published = item_irt_params.c, night_skills.c, published_params.c
    marked = (ledger.night == cast(func.timezone("UTC", items.as_of), Date)) & (
        ledger.outcome == Outcome.ROLLED_BACK.value
    )
    rows = connection.execute(
        select(items.skill_id)
        .distinct()
        .join(published_params, (published.skill_id == items.skill_id) & (published.as_of < items.as_of))
        .join(night_skills, (ledger.skill_id == items.skill_id) & marked)
        .where(items.skill_id == any_(bindparam("skills", list(skills), ARRAY(Text))))
    )
    return list(rows.scalars())


def _known(connection: Connection, skills: Collection[str]) -> list[str]:
    """The chosen skills, by default all of which parameters were ever stored."""
    stored = union(select(published_params.c.skill_id), select(skill_fits.c.skill_id))
    known = set(connection.execute(stored).scalars())
    if unknown := sorted(set(skills) - known):
        raise InvalidSettings(
            f"no parameters were ever stored for {', '.join(unknown)}; skills.id lists the skills"
        )
    return sorted(skills or known)


def _fits_of(connection: Connection, night: dt.date, known: Collection[str]) -> dict[str, "Row[Any]"]:
    """The latest fit of each skill up to and including the night."""
    last = (
        select(skill_fits.c.skill_id, func.max(skill_fits.c.night).label("night"))
        # The safe default of a grid without a valid point never replaced any row, so it is not restored either.
        .where(skill_fits.c.night <= night, skill_fits.c.log_likelihood.is_not(None))
        .group_by(skill_fits.c.skill_id)
        .subquery()
    )
    rows = connection.execute(
        select(skill_fits)
        .join(last, (last.c.skill_id == skill_fits.c.skill_id) & (last.c.night == skill_fits.c.night))
        .order_by(skill_fits.c.skill_id)
    )
    return {row.skill_id: row for row in rows if row.skill_id in known}


def _holds(row: Sequence[float | None] | None, fit: "Row[Any]") -> bool:
    """Whether the backend's table contains exactly these parameters."""
    return row is not None and all(
        equal_as_stored(getattr(fit, name), value) for name, value in zip(VALUES, row, strict=True)
    )


def _restore(connection: Connection, platform: Platform, fit: "Row[Any]", gone: "Row[Any] | None") -> None:
    write_rows(connection, platform, {fit.skill_id: [getattr(fit, name) for name in VALUES]})
    names = ("skill_id", "as_of", "run_id", "attempts")
    upsert(connection, published_params, [{name: getattr(fit, name) for name in names}], keys=["skill_id"])
    # Restoring a later night removes the mark of an earlier rollback and leaves no new one.
    if gone and fit.as_of < gone.as_of:
        why = f"the parameters of {fit.night} were restored"
        _mark(connection, fit.skill_id, gone.as_of, Outcome.ROLLED_BACK, why)
    _mark(connection, fit.skill_id, fit.as_of, Outcome.CALIBRATED, None, was=Outcome.ROLLED_BACK)


def _mark(
    connection: Connection,
    skill_id: str,
    as_of: dt.datetime,
    outcome: Outcome,
    why: str | None,
    was: Outcome | None = None,
) -> None:
    ledger = night_skills
    statement = (
        update(ledger)
        .where(ledger.c.night == as_of.astimezone(dt.UTC).date(), ledger.c.skill_id == skill_id)
        .values(outcome=outcome.value, reason=why, recorded_at=func.now())
    )
    connection.execute(statement.where(ledger.c.outcome == was.value) if was else statement)
