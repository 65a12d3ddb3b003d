"""The nights that are kept: going back to one, and letting go of the oldest."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from bkt_pipeline.db.platform import Platform
from bkt_pipeline.db.schema import (
    PARAMETERS,
    night_skills,
    published_params,
    skill_fits,
)
from bkt_pipeline.db.upsert import upsert
from bkt_pipeline.errors import InvalidSettings


@dataclass(frozen=True)
class RolledBack:
    """What became of the skills: got parameters back, had them already, or have none that are so old."""

    restored: list[str]
    unchanged: list[str]
    without: list[str]


def roll_back(
    connection: Connection, platform: Platform, night: dt.date, skills: Collection[str] = ()
) -> RolledBack:
    """Give `skill_bkt_params` the parameters that it held at the end of the night; of all skills, where none is named.

    A skill that was not calibrated that night gets those of its last calibration before. The ledger
    keeps, at the night whose parameters went, that they were rolled back. The next night publishes again.

    Raises
    ------
    InvalidSettings
        Nothing is kept of that night or before, or a skill has no parameters at all.
    """
    # The rows' locks hold off whoever publishes, which writes here first.
    published = {
        row.skill_id: row
        for row in connection.execute(
            select(published_params).order_by(published_params.c.skill_id).with_for_update()
        )
        if not skills or row.skill_id in skills
    }
    if unknown := sorted(set(skills) - set(published)):
        raise InvalidSettings(
            f"no parameters were ever stored for {', '.join(unknown)}; skills.id names them"
        )
    last = (
        select(skill_fits.c.skill_id, func.max(skill_fits.c.night).label("night"))
        # The safe default of a grid without a valid point was never published over anything.
        .where(skill_fits.c.night <= night, skill_fits.c.log_likelihood.is_not(None))
        .group_by(skill_fits.c.skill_id)
        .subquery()
    )
    then = {
        row.skill_id: row
        for row in connection.execute(
            select(skill_fits)
            .join(last, (last.c.skill_id == skill_fits.c.skill_id) & (last.c.night == skill_fits.c.night))
            .order_by(skill_fits.c.skill_id)
        )
        if row.skill_id in published
    }
    if not then:
        kept = connection.execute(select(func.min(skill_fits.c.night), func.max(skill_fits.c.night))).one()
        raise InvalidSettings(
            f"no parameters are kept of {night} or before; "
            + (f"the kept nights are {kept[0]} to {kept[1]}" if kept[0] else "no night is kept yet")
        )
    restored = [key for key, fit in then.items() if fit.as_of != published[key].as_of]
    for key, skill_id in zip(restored, platform.skill_ids(restored), strict=True):
        fit, gone = then[key], published[key]
        upsert(
            connection,
            platform.target,
            {
                "skill_id": skill_id,
                **{name: getattr(fit, name) for name in (*PARAMETERS, "log_likelihood")},
            },
            keys=["skill_id"],
            stamp="calibrated_at",
        )
        connection.execute(
            update(published_params)
            .where(published_params.c.skill_id == key)
            .values(as_of=fit.as_of, run_id=fit.run_id)
        )
        # Going forward again, which takes a mark away, leaves none.
        if fit.as_of < gone.as_of:
            _mark(connection, key, gone.as_of, "rolled_back", f"the parameters of {fit.night} were restored")
        _mark(connection, key, fit.as_of, "calibrated", None, was="rolled_back")
    return RolledBack(
        restored=restored,
        unchanged=sorted(set(then) - set(restored)),
        without=sorted(set(published) - set(then)),
    )


def _mark(
    connection: Connection,
    skill_id: str,
    as_of: dt.datetime,
    outcome: str,
    reason: str | None,
    was: str | None = None,
) -> None:
    ledger = night_skills
    statement = (
        update(ledger)
        .where(ledger.c.night == as_of.astimezone(dt.UTC).date(), ledger.c.skill_id == skill_id)
        .values(outcome=outcome, reason=reason, recorded_at=func.now())
    )
    connection.execute(statement.where(ledger.c.outcome == was) if was else statement)
