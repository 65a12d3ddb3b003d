"""Going back to the parameters of an earlier night."""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from bkt_pipeline.calibration.check import equal_as_stored
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.db.params import VALUES, current_values
from bkt_pipeline.db.platform import Platform
from bkt_pipeline.db.retry import reason
from bkt_pipeline.db.schema import night_skills, published_params, skill_fits
from bkt_pipeline.db.upsert import lock_skills, upsert
from bkt_pipeline.errors import InvalidSettings


@dataclass
class RolledBack:
    """What became of the skills: restored, unchanged, without parameters that old, or refused by the table and why."""

    restored: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def roll_back(
    connection: Connection, platform: Platform, night: dt.date, skills: Collection[str] = ()
) -> RolledBack:
    """Restore in `skill_bkt_params` what it held at the end of the night; of all skills, where none is named.

    A skill that was not calibrated that night gets the parameters of its last calibration before. The ledger notes,
    at the night whose parameters were replaced, that they were rolled back. The next night publishes again. A row
    that the table refuses, for instance of a skill that was deleted, costs the other skills nothing.

    Raises
    ------
    InvalidSettings
        Nothing is kept of that night or before, or a skill has no parameters at all.
    """
    published = _published(connection, skills)
    then = _fits_of(connection, night, published)
    if not then:
        kept = connection.execute(select(func.min(skill_fits.c.night), func.max(skill_fits.c.night))).one()
        raise InvalidSettings(
            f"no parameters are kept of {night} or before; "
            + (f"the kept nights are {kept[0]} to {kept[1]}" if kept[0] else "no night is kept yet")
        )
    done = RolledBack(without=sorted(set(published) - set(then)))
    now = current_values(connection, platform, sorted(then))
    for key, fit in then.items():
        if fit.as_of == published[key].as_of and _holds(now.get(key), fit):
            done.unchanged.append(key)
            continue
        try:
            with connection.begin_nested():
                _restore(connection, platform, fit, published[key])
        except Exception as error:
            done.refused[key] = reason(error)
        else:
            done.restored.append(key)
    return done


def _published(connection: Connection, skills: Collection[str]) -> dict[str, "Row[Any]"]:
    """Which calibration each row comes from, locked against whoever publishes."""
    rows = connection.execute(select(published_params).order_by(published_params.c.skill_id)).all()
    published = {row.skill_id: row for row in rows if not skills or row.skill_id in skills}
    if unknown := sorted(set(skills) - set(published)):
        raise InvalidSettings(
            f"no parameters were ever stored for {', '.join(unknown)}; skills.id lists the skills"
        )
    lock_skills(connection, list(published))
    # Read again under the locks.
    rows = connection.execute(
        select(published_params).where(published_params.c.skill_id.in_(list(published)))
    ).all()
    return {row.skill_id: row for row in rows}


def _fits_of(connection: Connection, night: dt.date, published: Collection[str]) -> dict[str, "Row[Any]"]:
    """The last fit of each skill up to the night."""
    last = (
        select(skill_fits.c.skill_id, func.max(skill_fits.c.night).label("night"))
        # The safe default of a grid without a valid point was never published over anything.
        .where(skill_fits.c.night <= night, skill_fits.c.log_likelihood.is_not(None))
        .group_by(skill_fits.c.skill_id)
        .subquery()
    )
    rows = connection.execute(
        select(skill_fits)
        .join(last, (last.c.skill_id == skill_fits.c.skill_id) & (last.c.night == skill_fits.c.night))
        .order_by(skill_fits.c.skill_id)
    )
    return {row.skill_id: row for row in rows if row.skill_id in published}


def _holds(row: Sequence[float | None] | None, fit: "Row[Any]") -> bool:
    """Whether the backend's table really has these parameters, whatever we noted about it."""
    return row is not None and all(
        equal_as_stored(getattr(fit, name), value) for name, value in zip(VALUES, row, strict=True)
    )


def _restore(connection: Connection, platform: Platform, fit: "Row[Any]", gone: "Row[Any]") -> None:
    (skill_id,) = platform.skill_ids([fit.skill_id])
    values = {name: getattr(fit, name) for name in VALUES}
    upsert(
        connection,
        platform.target,
        [{"skill_id": skill_id, **values}],
        keys=["skill_id"],
        stamp="calibrated_at",
    )
    connection.execute(
        update(published_params)
        .where(published_params.c.skill_id == fit.skill_id)
        .values(as_of=fit.as_of, run_id=fit.run_id)
    )
    # Going forward again removes a mark and leaves none.
    if fit.as_of < gone.as_of:
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
