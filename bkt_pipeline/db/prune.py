"""Deleting old nights."""

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import Connection, Date, and_, cast, delete, literal, or_, select, union

from bkt_pipeline.db.clock import LATEST_NIGHT
from bkt_pipeline.db.schema import (
    attempt_window,
    attempt_windows,
    night_items,
    night_skills,
    published_params,
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
    """Keep the newest `nights` nights, what it takes to go back to any of them, and what the backend reads now.

    The windows of skills that no kept night has read are deleted too. None where there are no more nights.
    """
    known = union(select(night_skills.c.night), select(skill_fits.c.night)).subquery()
    since = connection.execute(
        select(known.c.night)
        .where(known.c.night <= LATEST_NIGHT)
        .order_by(known.c.night.desc())
        .offset(nights - 1)
        .limit(1)
    ).scalar()
    if since is None:
        return None
    later = skill_fits.alias()
    superseded = (
        select(literal(1))
        .where(
            later.c.skill_id == skill_fits.c.skill_id,
            later.c.night > skill_fits.c.night,
            later.c.night <= since,
        )
        .exists()
    )
    is_read_now = (
        select(literal(1))
        .where(
            published_params.c.skill_id == skill_fits.c.skill_id,
            published_params.c.as_of == skill_fits.c.as_of,
        )
        .exists()
    )
    # A night in the future comes from a clock or a date that was wrong.
    fits = connection.execute(
        delete(skill_fits).where(
            or_(and_(skill_fits.c.night < since, superseded), skill_fits.c.night > LATEST_NIGHT), ~is_read_now
        )
    ).rowcount
    old = or_(night_skills.c.night < since, night_skills.c.night > LATEST_NIGHT)
    outcomes = connection.execute(delete(night_skills).where(old)).rowcount
    connection.execute(
        delete(night_items).where(or_(night_items.c.night < since, night_items.c.night > LATEST_NIGHT))
    )
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
