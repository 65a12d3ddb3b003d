"""Windows in Postgres: the tables attempt_windows (one row per skill) and attempt_window (one per skill and student).

Windows are stored in batches, each in one transaction with one COPY. If the database refuses a batch, its windows are
stored one by one, so that a refused window does not affect the others. Skills are locked in sorted order, so that
overlapping runs never deadlock.
"""

import datetime as dt
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import psycopg
from sqlalchemy import Connection, Date, Executable, Row, cast, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.attempts import POSTGRES_EPOCH
from bkt_pipeline.db.clock import CLOCK_TOLERANCE
from bkt_pipeline.db.connection import psycopg_connection
from bkt_pipeline.db.database import Run
from bkt_pipeline.db.migrations import current, newest
from bkt_pipeline.db.retry import reason
from bkt_pipeline.db.schema import SCHEMA, attempt_window, attempt_windows
from bkt_pipeline.db.upsert import lock_skills
from bkt_pipeline.errors import DatabaseUnavailable, WindowOvertaken, WindowStoreUnavailable, WindowUnusable
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.windows.store import StoredWindow, WindowStore

BATCH_SIZE = 100  # skills locked, and windows written, in one transaction

# The binary format of COPY and, within it, of a timestamptz[].
_ROW_START = struct.Struct("!hi")  # fields, size of the first
_SIZE = struct.Struct("!i")
_ARRAY_HEADER = struct.Struct("!iiIii")  # dimensions, nulls, type, length, first index
_ARRAY_ITEM = np.dtype([("size", ">i4"), ("at", ">i8")])
_TIMESTAMPTZ_OID = 1184
_COPY = f"COPY {SCHEMA}.{attempt_window.name} (skill_id, student_id, answers, answered_at) FROM STDIN (FORMAT binary)"
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"
_PROBE = "bkt-pipeline access check"
_NEW = insert(attempt_windows).excluded
_STORE_HEADS = (
    insert(attempt_windows)
    .values(stored_at=func.now())
    .on_conflict_do_update(
        index_elements=["skill_id"],
        set_={column.name: _NEW[column.name] for column in attempt_windows.c if column.name != "skill_id"},
        where=or_(
            _NEW.as_of >= attempt_windows.c.as_of, attempt_windows.c.as_of > func.now() + CLOCK_TOLERANCE
        ),
    )
    .returning(attempt_windows.c.skill_id)
)
# A single statement, so that the counts and the answers are from the same moment; one row per skill. Python cannot
# represent an as_of outside these years or an infinite one.
_LOAD = text("""
    SELECT h.skill_id, h.window_days, h.sequences, h.attempts, h.students, h.ungraded, h.run_id,
        CASE WHEN h.as_of BETWEEN '0002-01-01' AND '9998-12-31' THEN h.as_of END AS as_of,
        r.student_ids, r.lengths, r.responses, r.moments
    FROM bkt_pipeline.attempt_windows h
    LEFT JOIN LATERAL (
        SELECT array_agg(student_id) AS student_ids, array_agg(length(answers)) AS lengths,
            string_agg(answers, '') AS responses,
            string_agg(substring(array_send(answered_at) FROM :header + 1), '') AS moments
        FROM (
            SELECT * FROM bkt_pipeline.attempt_window s
            WHERE s.skill_id = h.skill_id ORDER BY student_id COLLATE "C"
        ) AS sorted
    ) AS r ON true
    WHERE h.skill_id = ANY(:keys)
""")


class PostgresWindows(WindowStore):
    """Windows in the schema `bkt_pipeline` of the platform's database.

    Parameters
    ----------
    run
        Runs work in one transaction, like `Database.run`.
    """

    location = f"{SCHEMA}.{attempt_window.name}"

    def __init__(self, run: Run) -> None:
        self._run = run

    def check_access(self) -> None:
        """Store, load and delete a window in a transaction that is rolled back; the tables may not exist yet."""
        try:
            self._run(_try_access)
        except (DBAPIError, psycopg.Error) as error:
            raise WindowStoreUnavailable(
                f"windows cannot be stored in {self.location}: {reason(error)}; run bkt-pipeline migrate as the owner "
                "of the platform's tables, then the SQL of bkt-pipeline migrate --print-grants"
            ) from None

    def store(self, windows: Mapping[str, AttemptWindow], run_id: str) -> Iterator[tuple[str, Exception]]:
        for keys in _batches(sorted(windows)):
            yield from self._store([windows[key] for key in keys], run_id)

    def load(self, keys: Sequence[str]) -> dict[str, StoredWindow | Exception]:
        loaded: dict[str, StoredWindow | Exception] = {}
        for some in _batches(keys):
            loaded |= self._run(partial(load_windows, keys=some))
        return loaded

    def prune(self, since: dt.date) -> int:
        is_old = cast(attempt_windows.c.as_of, Date) < since

        def delete_old(keys: Sequence[str], connection: Connection) -> int:
            lock_skills(connection, keys)
            gone = connection.execute(
                delete(attempt_windows)
                .where(attempt_windows.c.skill_id.in_(keys), is_old)
                .returning(attempt_windows.c.skill_id)
            ).scalars()
            return _delete_answers(connection, gone.all())

        return self._each_batch(select(attempt_windows.c.skill_id).where(is_old), delete_old)

    def forget(self, student_id: str) -> int:
        of_student = attempt_window.c.student_id == student_id

        def delete_student(keys: Sequence[str], connection: Connection) -> int:
            lock_skills(connection, keys)
            gone = (
                delete(attempt_window)
                .where(attempt_window.c.skill_id.in_(keys), of_student)
                .returning(attempt_window.c.skill_id, func.length(attempt_window.c.answers).label("answers"))
                .cte("gone")
            )
            heads = attempt_windows.c
            changed = update(attempt_windows).where(heads.skill_id == gone.c.skill_id)
            return connection.execute(
                changed.values(students=heads.students - 1, attempts=heads.attempts - gone.c.answers)
            ).rowcount

        return self._each_batch(select(attempt_window.c.skill_id).where(of_student), delete_student)

    def _store(self, batch: Sequence[AttemptWindow], run_id: str) -> Iterator[tuple[str, Exception]]:
        try:
            stored = self._run(partial(store_windows, windows=batch, run_id=run_id))
        except DatabaseUnavailable:
            raise
        except Exception as error:
            refusal = error
        else:
            for window in batch:
                if window.skill_id not in stored:
                    yield window.skill_id, WindowOvertaken("a newer window is stored")
            return
        if len(batch) == 1:
            yield batch[0].skill_id, refusal
            return
        for window in batch:
            yield from self._store([window], run_id)

    def _each_batch(self, query: Executable, work: Callable[[Sequence[str], Connection], int]) -> int:
        """Do the work for the skills that the query finds, one transaction per batch; return the sum of the results."""
        keys = sorted(self._run(lambda connection: connection.execute(query).scalars().all()))
        total = 0
        for some in _batches(keys):
            total += self._run(partial(work, some))
        return total


def store_windows(connection: Connection, windows: Sequence[AttemptWindow], run_id: str) -> set[str]:
    """Store the windows that are not older than the stored ones; return their skills.

    Takes an open connection and leaves the commit to the caller.
    """
    if not windows:
        return set()
    lock_skills(connection, sorted(window.skill_id for window in windows))
    heads = [
        {
            "skill_id": window.skill_id,
            "as_of": window.as_of,
            "window_days": window.window_days,
            "sequences": window.sequences,
            "attempts": window.n_attempts,
            "students": window.n_students,
            "ungraded": window.ungraded,
            "run_id": run_id,
        }
        for window in windows
    ]
    stored = set(connection.execute(_STORE_HEADS, heads).scalars())
    _delete_answers(connection, sorted(stored))
    driver = psycopg_connection(connection)
    with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.write(_COPY_HEADER)
        for window in windows:
            if window.skill_id in stored:
                copy.write(_copy_rows(window, driver.info.encoding))
        copy.write(_COPY_END)
    return stored


def load_windows(connection: Connection, keys: Sequence[str]) -> dict[str, StoredWindow | Exception]:
    """The stored window of each skill, or why it cannot be used. Skills without a stored window are absent."""
    rows = connection.execute(_LOAD, {"keys": list(keys), "header": _ARRAY_HEADER.size})
    return {row.skill_id: _window_of(row) for row in rows}


def _window_of(row: Row[Any]) -> StoredWindow | WindowUnusable:
    lengths = row.lengths or []
    try:
        if row.as_of is None:
            raise ValueError("its as_of is not a date that Python has")
        window = AttemptWindow(
            skill_id=row.skill_id,
            student_ids=tuple(row.student_ids or ()),
            responses=np.frombuffer((row.responses or "").encode("ascii"), np.uint8) - ord("0"),
            answered_at=np.frombuffer(row.moments or b"", _ARRAY_ITEM)["at"].astype(np.int64)
            + POSTGRES_EPOCH,
            offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            as_of=row.as_of.astimezone(dt.UTC),
            window_days=row.window_days,
            ungraded=row.ungraded,
            sequences=row.sequences,
        )
    except ValueError as error:
        return WindowUnusable(
            f"its stored window is damaged ({error}); materialise attempt_window for it again"
        )
    if (window.n_students, window.n_attempts) != (row.students, row.attempts):
        return WindowUnusable("its stored window is incomplete; materialise attempt_window for it again")
    return StoredWindow(window, row.run_id)


def _copy_rows(window: AttemptWindow, encoding: str) -> bytes:
    """The rows of a window in the binary format of COPY, without a Python object per answer."""
    skill = window.skill_id.encode(encoding)
    responses = (window.responses + ord("0")).tobytes()
    items = np.empty(window.n_attempts, _ARRAY_ITEM)
    items["size"], items["at"] = 8, window.answered_at - POSTGRES_EPOCH
    moments = items.tobytes()
    start = _ROW_START.pack(4, len(skill)) + skill
    offsets = window.offsets.tolist()
    parts = []
    for student_id, begin, end in zip(window.student_ids, offsets[:-1], offsets[1:], strict=True):
        student, n = student_id.encode(encoding), end - begin
        array = _ARRAY_HEADER.pack(1, 0, _TIMESTAMPTZ_OID, n, 1)
        size = len(array) + n * _ARRAY_ITEM.itemsize
        parts += [start, _SIZE.pack(len(student)), student, _SIZE.pack(n), responses[begin:end]]
        parts += [_SIZE.pack(size), array, moments[begin * _ARRAY_ITEM.itemsize : end * _ARRAY_ITEM.itemsize]]
    return b"".join(parts)


def _delete_answers(connection: Connection, keys: Sequence[str]) -> int:
    connection.execute(delete(attempt_window).where(attempt_window.c.skill_id.in_(keys)))
    return len(keys)


def _try_access(connection: Connection) -> None:
    if current(connection) != newest():
        return
    now = dt.datetime.now(dt.UTC)
    answered = np.array([now.timestamp() * 1e6 - 1e6]).astype(np.int64)
    probe = AttemptWindow(_PROBE, (_PROBE,), np.ones(1, np.uint8), answered, np.array([0, 1]), now, 1)
    attempt = connection.begin_nested()
    store_windows(connection, [probe], _PROBE)
    load_windows(connection, [_PROBE])
    connection.execute(delete(attempt_windows).where(attempt_windows.c.skill_id == _PROBE))
    attempt.rollback()


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), BATCH_SIZE):
        yield keys[start : start + BATCH_SIZE]
