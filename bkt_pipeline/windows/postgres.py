"""Skills and their attempts: the statements that read them from the platform and keep each skill's last window.

Each function takes an open Connection and leaves the commit to its caller.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy import (
    ARRAY,
    Connection,
    Text,
    bindparam,
    delete,
    func,
    select,
    text,
)

from bkt_pipeline.db import schema
from bkt_pipeline.db.connection import psycopg_connection
from bkt_pipeline.db.database import Database
from bkt_pipeline.db.schema import SCHEMA
from bkt_pipeline.db.schema import attempt_window as attempt_window_table
from bkt_pipeline.db.upsert import upsert
from bkt_pipeline.errors import DatabaseUnavailable
from bkt_pipeline.model.attempts import AttemptWindow

if TYPE_CHECKING:
    pass

from bkt_pipeline.db.attempts import POSTGRES_EPOCH, build_window
from bkt_pipeline.db.upsert import lock_skill

_ARRAY_HEADER = np.dtype(
    [("ndim", ">i4"), ("nulls", ">i4"), ("oid", ">u4"), ("length", ">i4"), ("base", ">i4")]
)


_ARRAY_ITEM = np.dtype([("size", ">i4"), ("at", ">i8")])


_TIMESTAMPTZ_OID = 1184


_NO_WAIT = text("SET LOCAL synchronous_commit TO off")


_CLEAR = delete(schema.attempt_window).where(schema.attempt_window.c.skill_id == bindparam("key"))


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
        windows[head.skill_id] = build_window(
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


class PostgresWindows:
    """The tables attempt_windows and attempt_window, one transaction a window."""

    location = f"{SCHEMA}.{attempt_window_table.name}"

    def __init__(self, database: Database) -> None:
        self._database = database

    def store(self, windows: Mapping[str, AttemptWindow], run_id: str) -> Iterator[tuple[str, Exception]]:
        for place, key in enumerate(sorted(windows), start=1):
            # What commits later is never on disk before what committed earlier: one wait at the end is for all.
            wait = place == len(windows)
            try:
                self._database.run(
                    partial(store_window, window=windows[key], run_id=run_id, wait_for_disk=wait)
                )
            except DatabaseUnavailable:
                raise
            except Exception as error:
                yield key, error

    def load(self, keys: Sequence[str]) -> dict[str, AttemptWindow | Exception]:
        return dict(self._database.run(lambda connection: load_windows(connection, keys)))
