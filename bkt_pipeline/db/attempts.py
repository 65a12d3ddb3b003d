"""Active skills and their attempts, read from the platform's tables.

Each function takes an open Connection and leaves the commit to its caller.
"""

import datetime as dt
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import (
    ARRAY,
    Connection,
    LargeBinary,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from bkt_pipeline.db.platform import Source
from bkt_pipeline.model.attempts import AttemptWindow

POSTGRES_EPOCH = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970


_ANSWER = np.dtype([("at", ">i8"), ("right", "u1")])


def read_active_skills(connection: Connection, source: Source) -> list[str]:
    """Ids of the active skills as text, in the order of the text."""
    skills = source.skills
    rows = connection.execute(select(cast(skills.c.id, Text)).where(skills.c.active))
    return sorted(rows.scalars())


def read_windows(
    connection: Connection, source: Source, keys: Sequence[str], as_of: dt.datetime, window_days: int
) -> dict[str, AttemptWindow]:
    """The attempts with ``as_of - window_days < created_at <= as_of`` of each skill, grouped to sequences by Postgres.

    Every key has a window in the result, an empty one where there is no graded attempt. One
    aggregate a student brings nine bytes an answer (its time, its grade), so no row is ever an object.
    """
    items, attempts = source.items, source.attempts
    bound = as_of.astimezone(dt.UTC)
    if not source.zoned:
        bound = bound.replace(tzinfo=None)
    as_bytes = func.timestamptz_send if source.zoned else func.timestamp_send
    graded = attempts.c.is_correct.is_not(None)
    answer = as_bytes(attempts.c.created_at, type_=LargeBinary).op("||")(
        case((attempts.c.is_correct, literal(b"\x01")), else_=literal(b"\x00"))
    )
    statement = (
        select(
            cast(items.c.skill_id, Text).label("skill_id"),
            cast(attempts.c.student_id, Text).label("student_id"),
            func.string_agg(
                answer, aggregate_order_by(literal(b""), *source.attempt_order), type_=LargeBinary
            ).filter(graded),
            func.count().filter(~graded),
        )
        .select_from(attempts.join(items, items.c.id == attempts.c.item_id))
        .where(
            items.c.skill_id == func.any(bindparam("skills", type_=ARRAY(source.skills.c.id.type))),
            attempts.c.created_at > bound - dt.timedelta(days=window_days),
            attempts.c.created_at <= bound,
            attempts.c.student_id.is_not(None),
        )
        .group_by(items.c.skill_id, attempts.c.student_id)
    )
    rows = connection.execute(statement, {"skills": source.skill_ids(keys)}).all()
    windows = {key: build_window(key, [], [], [], 0, as_of, window_days) for key in keys}
    for key, group in groupby(sorted(rows, key=lambda row: (row[0], row[1])), key=lambda row: row[0]):
        of_skill = list(group)
        with_answers = [row for row in of_skill if row[2] is not None]
        answers = np.frombuffer(b"".join(row[2] for row in with_answers), _ANSWER)
        windows[key] = build_window(
            key,
            [row[1] for row in with_answers],
            answers["right"],
            answers["at"].astype(np.int64) + POSTGRES_EPOCH,
            sum(row[3] for row in of_skill),
            as_of,
            window_days,
            lengths=[len(row[2]) // _ANSWER.itemsize for row in with_answers],
        )
    return windows


def build_window(
    skill_id: str,
    student_ids: Sequence[str],
    responses: Any,
    answered_at: Any,
    ungraded: int,
    as_of: dt.datetime,
    window_days: int,
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
    )
