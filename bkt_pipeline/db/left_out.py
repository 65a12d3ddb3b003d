"""Attempts that a window leaves out, counted by skill."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Text, cast, func, select

from bkt_pipeline.db.platform import Source


@dataclass(frozen=True)
class LeftOut:
    """Numbers of attempts, by skill, that a window can't hold; a skill without any is not in it."""

    in_future: dict[str, int]  # they bear a time that is still to come
    without_student: dict[str, int]  # in the window's days, but of no sequence


def left_out(
    connection: Connection, source: Source, keys: Sequence[str], as_of: dt.datetime, window_days: int
) -> LeftOut:
    """What the windows of the skills leave out."""
    return LeftOut(
        in_future=_in_future(connection, source, keys),
        without_student=_without_student(connection, source, keys, as_of, window_days),
    )


def _in_future(connection: Connection, source: Source, keys: Sequence[str]) -> dict[str, int]:
    items, attempts = source.items, source.attempts
    now = func.now() if source.zoned else func.timezone("UTC", func.now())
    rows = connection.execute(
        select(cast(items.c.skill_id, Text).label("skill_id"), func.count().label("attempts"))
        .select_from(attempts.join(items, items.c.id == attempts.c.item_id))
        .where(items.c.skill_id.in_(source.skill_ids(keys)), attempts.c.created_at > now)
        .group_by(items.c.skill_id)
    )
    return {row.skill_id: row.attempts for row in rows}


def _without_student(
    connection: Connection, source: Source, keys: Sequence[str], as_of: dt.datetime, window_days: int
) -> dict[str, int]:
    items, attempts = source.items, source.attempts
    if not attempts.c.student_id.nullable:
        # As on most platforms, and it costs them nothing.
        return {}
    bound = as_of.astimezone(dt.UTC)
    if not source.zoned:
        bound = bound.replace(tzinfo=None)
    rows = connection.execute(
        select(cast(items.c.skill_id, Text).label("skill_id"), func.count().label("attempts"))
        .select_from(attempts.join(items, items.c.id == attempts.c.item_id))
        .where(
            items.c.skill_id.in_(source.skill_ids(keys)),
            attempts.c.created_at > bound - dt.timedelta(days=window_days),
            attempts.c.created_at <= bound,
            attempts.c.student_id.is_(None),
        )
        .group_by(items.c.skill_id)
    )
    return {row.skill_id: row.attempts for row in rows}
