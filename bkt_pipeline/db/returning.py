"""How many of a window's students are no beginners, which decides whether `sequences` matters to a platform."""

import datetime as dt
from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from bkt_pipeline.db.attempts import end_of_window, in_window
from bkt_pipeline.db.platform import Source, requested_keys

SAMPLED = 50  # skills


def sampled(keys: Sequence[str]) -> list[str]:
    """At most `SAMPLED` of the keys, spread evenly over them."""
    step = max(1, -(-len(keys) // SAMPLED))
    return list(keys[::step])


def returning_students(
    connection: Connection, source: Source, keys: Sequence[str], as_of: dt.datetime, window_days: int
) -> tuple[int, int]:
    """How many students answered in the window of these skills, and how many of them had answered the skill before.

    A student counts once for each skill. Only graded answers count.
    """
    items, attempts, given = source.items, source.attempts, requested_keys()
    inside = in_window(source, as_of, window_days)
    answered_inside = func.count().filter(inside)
    of_student = (
        select((func.count() > answered_inside).label("returns"))
        .select_from(given)
        .join(items, source.is_skill(items.c.skill_id, given.c.key))
        .join(attempts, attempts.c.item_id == items.c.id)
        .where(
            attempts.c.student_id.is_not(None),
            attempts.c.is_correct.is_not(None),
            attempts.c.created_at <= end_of_window(source, as_of),
        )
        .group_by(given.c.number, attempts.c.student_id)
        .having(answered_inside > 0)
        .subquery()
    )
    statement = select(func.count(), func.count().filter(of_student.c.returns)).select_from(of_student)
    students, returning = connection.execute(statement, {"keys": list(keys)}).one()
    return students, returning
