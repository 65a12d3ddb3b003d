"""Skills and their attempts: the statements that read them from the platform and keep each skill's last window.

Each function takes an open Connection and leaves the commit to its caller.
"""

import datetime as dt
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy import (
    ARRAY,
    Connection,
    LargeBinary,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from bkt_pipeline.db import schema
from bkt_pipeline.db.connection import psycopg_connection
from bkt_pipeline.db.schema import Source
from bkt_pipeline.db.upsert import upsert
from bkt_pipeline.model.types import AttemptWindow

POSTGRES_EPOCH = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970
_ANSWER = np.dtype([("at", ">i8"), ("right", "u1")])
_ARRAY_HEADER = np.dtype(
    [("ndim", ">i4"), ("nulls", ">i4"), ("oid", ">u4"), ("length", ">i4"), ("base", ">i4")]
)
_ARRAY_ITEM = np.dtype([("size", ">i4"), ("at", ">i8")])
_TIMESTAMPTZ_OID = 1184

# Built once: to build a statement takes longer than to run one, and these run for each skill.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_NO_WAIT = text("SET LOCAL synchronous_commit TO off")
_CLEAR = delete(schema.attempt_window).where(schema.attempt_window.c.skill_id == bindparam("key"))


def read_active_skills(connection: Connection, source: Source) -> list[str]:
    """Ids of the active skills as text, in the order of the text."""
    skills = source.skills
    rows = connection.execute(select(cast(skills.c.id, Text)).where(skills.c.active))
    return sorted(rows.scalars())


def lock_skill(connection: Connection, skill_id: str) -> None:
    """Hold the skill until the transaction ends; whoever writes something of it takes this first."""
    connection.execute(_LOCK, {"name": f"bkt_pipeline:{skill_id}"})


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
    windows = {key: _window(key, [], [], [], 0, as_of, window_days) for key in keys}
    for key, group in groupby(sorted(rows, key=lambda row: (row[0], row[1])), key=lambda row: row[0]):
        of_skill = list(group)
        with_answers = [row for row in of_skill if row[2] is not None]
        answers = np.frombuffer(b"".join(row[2] for row in with_answers), _ANSWER)
        windows[key] = _window(
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


def store_window(
    connection: Connection, window: AttemptWindow, run_id: str, *, wait_for_disk: bool = True
) -> bool:
    """Replace the skill's stored window by this one, unless a newer one is stored; says whether it did.

    Without `wait_for_disk` a server that dies within a second may forget it, whole, and what stood before stands.
    """
    if not wait_for_disk:
        connection.execute(_NO_WAIT)
    lock_skill(connection, window.skill_id)
    if not upsert(
        connection,
        schema.attempt_windows,
        {
            "skill_id": window.skill_id,
            "as_of": window.as_of,
            "window_days": window.window_days,
            "attempts": window.n_attempts,
            "students": window.n_students,
            "ungraded": window.ungraded,
            "run_id": run_id,
        },
        keys=["skill_id"],
        newest="as_of",
        stamp="stored_at",
    ):
        return False
    connection.execute(_CLEAR, {"key": window.skill_id})
    answers = (window.responses + ord("0")).astype(np.uint8).tobytes().decode("ascii")
    cursor = psycopg_connection(connection).cursor()
    cursor.adapters.register_dumper(_Moments, _MomentsDumper)
    with (
        cursor,
        cursor.copy(
            "COPY bkt_pipeline.attempt_window (skill_id, student_id, answers, answered_at) FROM STDIN (FORMAT binary)"
        ) as copy,
    ):
        for student, start, end in zip(
            window.student_ids, window.offsets[:-1], window.offsets[1:], strict=True
        ):
            copy.write_row(
                (window.skill_id, student, answers[start:end], _Moments(window.answered_at[start:end]))
            )
    return True


def load_windows(connection: Connection, keys: Sequence[str]) -> dict[str, AttemptWindow]:
    """The stored windows of these skills; a skill whose window was never stored is not in the result."""
    heads, rows = schema.attempt_windows, schema.attempt_window
    of_keys = bindparam("keys", type_=ARRAY(Text))
    sequences = connection.execute(
        select(rows.c.skill_id, rows.c.student_id, rows.c.answers, func.array_send(rows.c.answered_at))
        .where(rows.c.skill_id == func.any(of_keys))
        .order_by(rows.c.skill_id, rows.c.student_id),
        {"keys": list(keys)},
    ).all()
    by_skill = {key: list(group) for key, group in groupby(sequences, key=lambda row: row[0])}
    windows = {}
    for head in connection.execute(
        select(heads).where(heads.c.skill_id == func.any(of_keys)), {"keys": list(keys)}
    ):
        of_skill = sorted(by_skill.get(head.skill_id, []), key=lambda row: row[1])
        answers = "".join(row[2] for row in of_skill).encode("ascii")
        moments = b"".join(row[3][_ARRAY_HEADER.itemsize :] for row in of_skill)
        windows[head.skill_id] = _window(
            head.skill_id,
            [row[1] for row in of_skill],
            np.frombuffer(answers, np.uint8) - ord("0"),
            np.frombuffer(moments, _ARRAY_ITEM)["at"].astype(np.int64) + POSTGRES_EPOCH,
            head.ungraded,
            head.as_of,
            head.window_days,
            lengths=[len(row[2]) for row in of_skill],
        )
    return windows


def _window(
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


class _Moments:
    """Microseconds since 1970 on their way into a timestamptz[]."""

    def __init__(self, micros: "np.ndarray[Any, np.dtype[np.int64]]") -> None:
        self.micros = micros


class _MomentsDumper(Dumper):
    """Writes the array in Postgres' own binary form, with no Python object a moment."""

    format = Format.BINARY

    def dump(self, obj: _Moments) -> bytes:
        header = np.array([(1, 0, _TIMESTAMPTZ_OID, len(obj.micros), 1)], _ARRAY_HEADER)
        items = np.empty(len(obj.micros), _ARRAY_ITEM)
        items["size"] = 8
        items["at"] = obj.micros - POSTGRES_EPOCH
        return header.tobytes() + items.tobytes()
