"""Where the platform's answers are when a window holds none."""

import datetime as dt

from sqlalchemy import Connection, func, select

from bkt_pipeline.db.attempts import end_of_window
from bkt_pipeline.db.platform import Source


def older_answers(connection: Connection, source: Source, as_of: dt.datetime, window_days: int) -> str | None:
    """If all answers to active skills are older than the window: when the newest was given, and which as_of has it.

    It may read all attempts, so ask only where the window turned out to be empty.
    """
    attempts, items, skills = source.attempts.c, source.items.c, source.skills.c
    of_active_skill = (
        select(items.id)
        .join(source.skills, skills.id == items.skill_id)
        .where(items.id == attempts.item_id, skills.active)
        .exists()
    )
    end = end_of_window(source, as_of)
    newest = connection.execute(
        select(func.max(attempts.created_at)).where(
            attempts.created_at <= end,
            func.isfinite(attempts.created_at),
            attempts.is_correct.is_not(None),
            attempts.student_id.is_not(None),
            of_active_skill,
        )
    ).scalar()
    if newest is None or newest > end - dt.timedelta(days=window_days):
        return None
    return (
        f"the newest graded answer is from {newest:%Y-%m-%d}, older than the window of {window_days} days: there is "
        f"nothing to calibrate; try bkt-pipeline nightly --as-of {newest.date() + dt.timedelta(days=1)}"
    )
