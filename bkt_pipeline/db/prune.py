"""Deleting old nights."""

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import Connection, Date, cast, delete, literal, select, union

from bkt_pipeline.db.schema import (
    attempt_window,
    attempt_windows,
    night_items,
    night_skills,
    skill_fits,
)


@dataclass(frozen=True)
class Pruned:
    """The oldest night that is kept, and how many rows went."""

    since: dt.date
    fits: int
    outcomes: int
    windows: int


def prune(connection: Connection, nights: int) -> Pruned | None:
    """Keep the newest `nights` nights and what it takes to go back to any of them; None where there are no more.

    The answers of skills that no kept night has read go too.
    """
    known = union(select(night_skills.c.night), select(skill_fits.c.night)).subquery()
    since = connection.execute(
        select(known.c.night).order_by(known.c.night.desc()).offset(nights - 1).limit(1)
    ).scalar()
    if since is None:
        return None
    later = skill_fits.alias()
    fits = connection.execute(
        delete(skill_fits).where(
            skill_fits.c.night < since,
            select(literal(1))
            .where(
                later.c.skill_id == skill_fits.c.skill_id,
                later.c.night > skill_fits.c.night,
                later.c.night <= since,
            )
            .exists(),
        )
    ).rowcount
    outcomes = connection.execute(delete(night_skills).where(night_skills.c.night < since)).rowcount
    connection.execute(delete(night_items).where(night_items.c.night < since))
    windows = (
        connection.execute(
            delete(attempt_windows)
            .where(cast(attempt_windows.c.as_of, Date) < since)
            .returning(attempt_windows.c.skill_id)
        )
        .scalars()
        .all()
    )
    connection.execute(delete(attempt_window).where(attempt_window.c.skill_id.in_(windows)))
    return Pruned(since, fits, outcomes, len(windows))
