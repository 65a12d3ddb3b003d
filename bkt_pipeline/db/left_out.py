"""Counts the attempts that the windows leave out or contain more than once.

`left_out` counts by skill, for the skills of a run. `count_orphans` counts for the whole platform, because an attempt
with an unknown item or skill belongs to no skill. It scans the whole window, so only the summary and doctor use it.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, case, cast, func, select

from bkt_pipeline.db.attempts import in_window
from bkt_pipeline.db.platform import Source, requested_keys


@dataclass(frozen=True)
class LeftOut:
    """Numbers of attempts by skill; skills without such attempts are absent."""

    in_future: dict[str, int] = field(default_factory=dict)  # created_at is in the future
    without_student: dict[str, int] = field(default_factory=dict)  # in the window, but in no sequence
    repeats: dict[str, int] = field(
        default_factory=dict
    )  # the window holds the same student, item, time and answer


@dataclass(frozen=True)
class Orphans:
    """Attempts in the window that belong to no skill."""

    without_item: int  # item_id is NULL or not in items
    without_skill: int  # the item exists, but its skill_id is NULL or not in skills

    @property
    def total(self) -> int:
        """The number of all these attempts."""
        return self.without_item + self.without_skill


def left_out(
    connection: Connection,
    source: Source,
    keys: Sequence[str],
    as_of: dt.datetime,
    window_days: int,
    repeats_in: Sequence[str] = (),
) -> LeftOut:
    """The attempts that the windows of the skills leave out, and those that they contain more than once.

    Repeated rows are counted only for the skills in `repeats_in`. Pass the skills for which
    `model.order.may_hold_repeats` is true; the others have no repeats. Repeats stay in the window and count as
    answers, because only the platform knows whether two quick taps are one answer or two.
    """
    now = func.now() if source.zoned else func.timezone("UTC", func.now())
    attempts = source.attempts.c
    inside = in_window(source, as_of, window_days)
    unknown = (
        # On most platforms the column is NOT NULL, and no query is needed.
        {}
        if not attempts.student_id.nullable
        else _by_skill(connection, source, keys, inside & attempts.student_id.is_(None))
    )
    return LeftOut(
        in_future=_by_skill(connection, source, keys, attempts.created_at > now),
        without_student=unknown,
        repeats=count_repeats(connection, source, repeats_in, as_of, window_days) if repeats_in else {},
    )


def _by_skill(connection: Connection, source: Source, keys: Sequence[str], which: Any) -> dict[str, int]:
    statement, number = _of_skills(source, func.count().label("attempts"))
    rows = connection.execute(statement.where(which).group_by(number), {"keys": list(keys)})
    return {keys[row.number - 1]: row.attempts for row in rows}


def _of_skills(source: Source, *columns: Any) -> tuple[Select[Any], Any]:
    given, items, attempts = requested_keys(), source.items, source.attempts
    statement = (
        select(given.c.number, *columns)
        .select_from(given)
        .join(items, source.is_skill(items.c.skill_id, given.c.key))
        .join(attempts, attempts.c.item_id == items.c.id)
    )
    return statement, given.c.number


def count_repeats(
    connection: Connection, source: Source, keys: Sequence[str], as_of: dt.datetime, window_days: int
) -> dict[str, int]:
    """By skill, the graded attempts in the window with the same student, item, time and answer as another."""
    attempts = source.attempts.c
    grade = case((source.is_right, 1), else_=0)
    alike = (attempts.student_id, attempts.item_id, attempts.created_at, grade)
    repeated = func.count() > 1
    return _in_groups(connection, source, keys, as_of, window_days, alike, repeated, func.count() - 1)


def count_ties(
    connection: Connection, source: Source, keys: Sequence[str], as_of: dt.datetime, window_days: int
) -> dict[str, int]:
    """By skill, the number that `model.order.tied_answers` returns for its window, counted in the database."""
    attempts = source.attempts.c
    differ = func.bool_or(source.is_right) & ~func.bool_and(source.is_right)
    at_once = (attempts.student_id, attempts.created_at)
    return _in_groups(connection, source, keys, as_of, window_days, at_once, differ, func.count())


def _in_groups(
    connection: Connection,
    source: Source,
    keys: Sequence[str],
    as_of: dt.datetime,
    window_days: int,
    by: Sequence[Any],
    which: Any,
    counted: Any,
) -> dict[str, int]:
    """By skill, the sum of `counted` over the groups of its graded attempts for which `which` is true."""
    attempts = source.attempts.c
    statement, number = _of_skills(source, counted.label("counted"))
    groups = (
        statement.where(
            in_window(source, as_of, window_days),
            attempts.is_correct.is_not(None),
            attempts.student_id.is_not(None),
        )
        .group_by(number, *by)
        .having(which)
        .subquery("groups_of_attempts")
    )
    rows = connection.execute(
        select(groups.c.number, cast(func.sum(groups.c.counted), BigInteger)).group_by(groups.c.number),
        {"keys": list(keys)},
    )
    return {keys[number - 1]: total for number, total in rows}


def count_orphans(connection: Connection, source: Source, as_of: dt.datetime, window_days: int) -> Orphans:
    """The attempts in the window, graded or not, that belong to no skill."""
    items, skills, attempts = source.items, source.skills, source.attempts
    # Items are far fewer than attempts, so the attempts are counted first.
    answered = (
        select(attempts.c.item_id, func.count().label("attempts"))
        .where(in_window(source, as_of, window_days))
        .group_by(attempts.c.item_id)
        .subquery("answered")
    )
    item = select(items.c.id).where(items.c.id == answered.c.item_id).exists()
    skill = (
        select(items.c.id)
        .join(skills, skills.c.id == items.c.skill_id)
        .where(items.c.id == answered.c.item_id)
        .exists()
    )
    without_item, without_skill = connection.execute(
        select(
            func.coalesce(func.sum(answered.c.attempts).filter(~item), 0),
            func.coalesce(func.sum(answered.c.attempts).filter(item & ~skill), 0),
        )
    ).one()
    return Orphans(int(without_item), int(without_skill))
