"""Delete old nights; the windows are deleted by their store."""

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, literal, select, union
from sqlalchemy.sql.selectable import Subquery

from bkt_pipeline.db.schema import night_items, night_skills, skill_fits


@dataclass(frozen=True)
class Pruned:
    """The oldest night that is kept, and how many rows were deleted."""

    since: dt.date
    fits: int
    outcomes: int


def prune(connection: Connection, nights: int) -> Pruned | None:
    """Keep the newest `nights` nights and what it takes to go back to any of them; None if there are no more."""
    known = _nights()
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
    return Pruned(since, fits, outcomes)


def windows_since(connection: Connection, nights: int) -> dt.date | None:
    """The first day whose windows are kept: `nights` days up to the newest night; None before the first night.

    It counts days and not nights, so that the answers to a retired skill are deleted however few nights there were.
    """
    last = connection.execute(select(func.max(_nights().c.night))).scalar()
    return dt.date.fromordinal(max(1, last.toordinal() - nights + 1)) if last else None


def _nights() -> Subquery:
    """The nights that are kept, without those of a clock error: a night in the future is not the newest."""
    known = union(select(night_skills.c.night), select(skill_fits.c.night)).subquery()
    return select(known.c.night).where(known.c.night <= func.current_date()).subquery()
