"""Active skills and their attempts, read from the platform's tables.

Each function takes an open Connection and leaves the commit to its caller.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    LargeBinary,
    Select,
    Text,
    case,
    cast,
    column,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from bkt_pipeline.db.isolation import read_isolated
from bkt_pipeline.db.platform import Source, requested_keys
from bkt_pipeline.db.relations import equal_values_may_differ
from bkt_pipeline.errors import WindowUnusable
from bkt_pipeline.model.attempts import AttemptWindow

POSTGRES_EPOCH = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970


_ANSWER = np.dtype([("at", ">i8"), ("right", "u1")])


def read_active_skills(connection: Connection, source: Source) -> list[str]:
    """Ids of the active skills as text, sorted.

    If the database treats several ids as equal (such as 'Sums' and 'sums' in a citext view), one of them is listed.
    An id that is not valid UTF-8 has surrogates in place of its invalid bytes; `unusable_keys` finds it.
    """
    skills = source.skills
    key = cast(skills.c.id, Text)
    statement = select(key).where(skills.c.active)
    if equal_values_may_differ(skills.c.id):
        statement = select(func.min(key.collate("C"))).where(skills.c.active).group_by(skills.c.id)
    try:
        with connection.begin_nested():
            return sorted(connection.execute(statement).scalars())
    except UnicodeDecodeError:
        raw = connection.execute(
            select(func.textsend(column("key"), type_=LargeBinary)).select_from(statement.subquery("ids"))
        )
        return sorted(bytes(value).decode(errors="surrogateescape") for value in raw.scalars())


def read_windows(
    connection: Connection,
    source: Source,
    keys: Sequence[str],
    as_of: dt.datetime,
    window_days: int,
    sequences: str = "window",
) -> dict[str, AttemptWindow | WindowUnusable]:
    """Each skill's attempts with ``as_of - window_days < created_at <= as_of``, grouped into sequences by Postgres.

    With sequences `from_first_answer`, each student who has a graded answer in that window contributes all graded
    answers to the skill up to `as_of`.

    Every key is in the result, with its window or with the reason why the window cannot be read. The window is empty
    if there are no graded attempts. A skill that cannot be read does not affect the others. Postgres sends one row
    for each skill, with nine bytes for each answer (its time and its grade), so no Python object is made per answer.
    """

    def read(some: Sequence[str]) -> dict[str, AttemptWindow]:
        return _read_windows(connection, source, some, as_of, window_days, sequences)

    return read_isolated(connection, source, keys, read)


def _read_windows(
    connection: Connection,
    source: Source,
    keys: Sequence[str],
    as_of: dt.datetime,
    window_days: int,
    sequences: str,
) -> dict[str, AttemptWindow]:
    statement = window_statement(source, as_of, window_days, sequences)
    windows: dict[str, AttemptWindow] = {}
    for row in connection.execute(statement, {"keys": list(keys)}):
        key = keys[row.number - 1]
        if row.odd:
            raise WindowUnusable(
                f"{row.odd:,} of its attempts have an is_correct other than 0 and 1; a grade is 0, 1 or NULL"
            )
        answers = np.frombuffer(row.answers or b"", _ANSWER)
        windows[key] = build_window(
            key,
            row.students or (),
            answers["right"],
            answers["at"].astype(np.int64) + POSTGRES_EPOCH,
            row.ungraded,
            as_of,
            window_days,
            sequences,
            lengths=row.lengths or (),
        )
    return {
        key: windows.get(key) or build_window(key, (), (), (), 0, as_of, window_days, sequences)
        for key in keys
    }


def window_statement(
    source: Source, as_of: dt.datetime, window_days: int, sequences: str = "window"
) -> Select[Any]:
    """One row for each skill: its number in the parameter `keys`, from 1, its students and their answers.

    Postgres groups skills and students by the platform's own equality. The number identifies the requested key, so no
    text is compared here.
    """
    by_student = _sequences(source, as_of, window_days, sequences).subquery("sequences").c
    graded = by_student.answers.is_not(None)
    # Equal texts of different ids have a fixed order too.
    order = (by_student.student_id.collate("C"), by_student.answers)
    return select(
        by_student.number,
        func.array_agg(aggregate_order_by(by_student.student_id, *order)).filter(graded).label("students"),
        func.array_agg(aggregate_order_by(func.octet_length(by_student.answers) // _ANSWER.itemsize, *order))
        .filter(graded)
        .label("lengths"),
        func.string_agg(by_student.answers, aggregate_order_by(literal(b""), *order), type_=LargeBinary)
        .filter(graded)
        .label("answers"),
        cast(func.sum(by_student.ungraded), BigInteger).label("ungraded"),
        cast(func.sum(by_student.odd), BigInteger).label("odd"),
    ).group_by(by_student.number)


def _sequences(source: Source, as_of: dt.datetime, window_days: int, sequences: str) -> Select[Any]:
    """One row for each student and skill."""
    items, attempts, given = source.items, source.attempts, requested_keys()
    as_bytes = func.timestamptz_send if source.zoned else func.timestamp_send
    graded = attempts.c.is_correct.is_not(None)
    answer = as_bytes(attempts.c.created_at, type_=LargeBinary).op("||")(
        case((source.is_right, literal(b"\x01")), else_=literal(b"\x00"))
    )
    odd = literal(0) if source.odd_grade is None else func.count().filter(source.odd_grade)
    inside = in_window(source, as_of, window_days)
    statement = (
        select(
            given.c.number,
            student_text(attempts.c.student_id).label("student_id"),
            func.string_agg(
                answer, aggregate_order_by(literal(b""), *source.attempt_order), type_=LargeBinary
            )
            .filter(graded)
            .label("answers"),
            func.count().filter(~graded & inside).label("ungraded"),
            odd.label("odd"),
        )
        .select_from(given)
        .join(items, source.is_skill(items.c.skill_id, given.c.key))
        .join(attempts, attempts.c.item_id == items.c.id)
        .where(attempts.c.student_id.is_not(None))
        .group_by(given.c.number, attempts.c.student_id)
    )
    if sequences == "window":
        return statement.where(inside)
    answered_inside = func.count().filter(inside & graded) > 0
    return statement.where(attempts.c.created_at <= end_of_window(source, as_of)).having(answered_inside)


def student_text(student_id: Column[Any]) -> ColumnElement[Any]:
    """A student's id as text, for statements that group by student. The text is the same every night."""
    as_text: ColumnElement[Any] = cast(student_id, Text)
    return func.min(as_text.collate("C")) if equal_values_may_differ(student_id) else as_text


def in_window(source: Source, as_of: dt.datetime, window_days: int) -> ColumnElement[bool]:
    """Whether an attempt lies in the window that ends at `as_of`."""
    end = end_of_window(source, as_of)
    created_at = source.attempts.c.created_at
    return (created_at > end - dt.timedelta(days=window_days)) & (created_at <= end)


def end_of_window(source: Source, as_of: dt.datetime) -> dt.datetime:
    """The end of the window as a value of created_at's type."""
    end = as_of.astimezone(dt.UTC)
    return end if source.zoned else end.replace(tzinfo=None)


def build_window(
    skill_id: str,
    student_ids: Sequence[str],
    responses: Any,
    answered_at: Any,
    ungraded: int,
    as_of: dt.datetime,
    window_days: int,
    sequences: str = "window",
    *,
    lengths: Sequence[int] = (),
) -> AttemptWindow:
    return AttemptWindow(
        skill_id=skill_id,
        student_ids=tuple(student_ids),
        responses=np.asarray(responses, np.uint8),
        answered_at=np.asarray(answered_at, np.int64),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        as_of=as_of.astimezone(dt.UTC),
        window_days=window_days,
        ungraded=ungraded,
        sequences=sequences,
    )
