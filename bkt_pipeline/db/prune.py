"""Deletes old nights."""

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, func, literal, or_, select, union
from sqlalchemy.sql.selectable import Subquery

from bkt_pipeline.db.clock import LATEST_NIGHT
from bkt_pipeline.db.priors import school_priors
from bkt_pipeline.db.schema import night_items, night_skills, published_params, skill_fits


@dataclass(frozen=True)
class Pruned:
    """The oldest night that was kept, and how many rows were deleted."""

    since: dt.date
    fits: int
    outcomes: int


def prune(connection: Connection, nights: int) -> Pruned | None:
    """Keep the newest `nights` nights, what is needed to restore any of them, and what the backend reads now.

    None if there are no older nights.
    """
    known = _nights()
    since = connection.execute(
        select(known.c.night).order_by(known.c.night.desc()).offset(nights - 1).limit(1)
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
    old = or_(and_(skill_fits.c.night < since, superseded), skill_fits.c.night > LATEST_NIGHT)
    fits = connection.execute(delete(skill_fits).where(old, ~is_read_now)).rowcount
    outcomes = 0
    for ledger in (night_skills, night_items):
        outside = or_(ledger.c.night < since, ledger.c.night > LATEST_NIGHT)
        outcomes += connection.execute(delete(ledger).where(outside)).rowcount
    # The latest prior stays, because the view `current_params` reads it.
    priors = school_priors.c
    latest = select(func.max(priors.night)).where(priors.night <= LATEST_NIGHT).scalar_subquery()
    outside = or_(and_(priors.night < since, priors.night < latest), priors.night > LATEST_NIGHT)
    connection.execute(delete(school_priors).where(outside))
    return Pruned(since, fits, outcomes)


def windows_since(connection: Connection, nights: int) -> dt.date | None:
    """The first day whose windows are kept: `nights` days up to the newest night; None if there is no night.

    It counts days instead of nights, so that the answers to a retired skill are deleted even if nights are rare.
    """
    last = connection.execute(select(func.max(_nights().c.night))).scalar()
    return dt.date.fromordinal(max(1, last.toordinal() - nights + 1)) if last else None


def _nights() -> Subquery:
    """The stored nights, without nights in the future, which come from a wrong clock."""
    known = union(select(night_skills.c.night), select(skill_fits.c.night)).subquery()
    return select(known.c.night).where(known.c.night <= LATEST_NIGHT).subquery()
