"""Creates the source tables of an empty database, and fills them from a file or with the synthetic school.

This is the only module that writes source tables, which otherwise belong to the platform. It creates only missing
tables and fills only empty ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    String,
    Table,
    Text,
    exists,
    func,
    inspect,
    select,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.types import DateTime, TypeEngine

from bkt_pipeline.errors import DatabaseError, SourceSchemaError

if TYPE_CHECKING:
    from bkt_pipeline.model.simulate import School

from bkt_pipeline.db.attempts_file import Attempts
from bkt_pipeline.db.file_rows import CHUNK
from bkt_pipeline.db.file_times import microseconds

_source = MetaData()


_skills = Table(
    "skills",
    _source,
    Column("id", Text, primary_key=True),
    Column("name", Text),
    Column("active", Boolean, nullable=False),
)


_items = Table(
    "items",
    _source,
    Column("id", Text, primary_key=True),
    Column("skill_id", Text, ForeignKey("skills.id"), nullable=False),
    Index("items_skill_id", "skill_id"),
)


_attempts = Table(
    "attempts",
    _source,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("student_id", Text, nullable=False),
    # No foreign key: a load writes the items itself, and checking each row would halve its speed.
    Column("item_id", Text, nullable=False),
    Column("is_correct", Boolean),
    Column("created_at", TIMESTAMP(timezone=True), nullable=False),
    Index(
        "attempts_item_id_created_at",
        "item_id",
        "created_at",
        postgresql_include=["student_id", "is_correct", "id"],
    ),
)


# The columns that a load writes, and the types that they must have.
_WRITTEN: dict[str, dict[str, type[TypeEngine[Any]]]] = {
    "skills": {"id": String, "active": Boolean},
    "items": {"id": String, "skill_id": String},
    "attempts": {"student_id": String, "item_id": String, "is_correct": Boolean, "created_at": DateTime},
}


_TYPE_NAMES: dict[type[TypeEngine[Any]], str] = {
    String: "text",
    Boolean: "boolean",
    DateTime: "timestamp",
}


_GRADED = {1: True, 0: False, -1: None}


_ELSEWHERE = (
    "Load into an empty database, where the tables are created: set DATABASE_URL to one, or BKT_PIPELINE_HOME to "
    "a new folder for an embedded one."
)


def create_source_tables(connection: Connection) -> None:
    """Create `skills`, `items` and `attempts` with indexes for calibration; existing tables are left unchanged."""
    wait_for_other_loads(connection)
    _source.create_all(connection)


def write_attempts(connection: Connection, attempts: Attempts) -> None:
    """Store `attempts`, their items and their skills (all active) in empty source tables.

    This is part of the caller's transaction, so others see nothing before the commit.

    Raises
    ------
    DatabaseError
        The tables hold rows already.
    SourceSchemaError
        A table or column is missing, an id column is not text, or a table requires columns that a file does not have.
    """
    _require_empty_tables(connection)
    _copy(connection, "skills", ("id", "active"), ((skill, True) for skill in attempts.skills))
    _copy(connection, "items", ("id", "skill_id"), attempts.items)
    _copy_attempts(
        connection, attempts.student_id, attempts.item_id, attempts.is_correct, attempts.created_us
    )


def write_school(connection: Connection, school: School, as_of: datetime | None = None) -> None:
    """Store the synthetic school in empty source tables, with its last answers shortly before `as_of` (default: now).

    This is part of the caller's transaction. It raises the same errors as :func:`write_attempts`.
    """
    _require_empty_tables(connection)
    end = microseconds(as_of or datetime.now(UTC))
    skills = ((skill.id, skill.name, skill.active) for skill in school.skills)
    _copy(connection, "skills", ("id", "name", "active"), skills)
    _copy(connection, "items", ("id", "skill_id"), school.items)
    _copy_attempts(connection, school.student_id, school.item_id, school.is_correct, end - school.age_us)


def wait_for_other_loads(connection: Connection) -> None:
    """Take the lock that all loads share, and hold it until the transaction ends."""
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("bkt_pipeline:load", 0))))


def _require_empty_tables(connection: Connection) -> None:
    wait_for_other_loads(connection)
    found = inspect(connection)
    for name, columns in _WRITTEN.items():
        try:
            types = {column["name"]: column["type"] for column in found.get_columns(name)}
        except NoSuchTableError:
            raise SourceSchemaError(f"The database has no table {name} to load into. {_ELSEWHERE}") from None
        for column, kind in columns.items():
            if not isinstance(types.get(column), kind):
                raise SourceSchemaError(
                    f"{name}.{column} is {str(types.get(column, 'missing')).lower()}; a load needs "
                    f"{_TYPE_NAMES[kind]} there. {_ELSEWHERE}"
                )
        if connection.execute(select(exists().select_from(_source.tables[name]))).scalar():
            raise DatabaseError(
                f"The table {name} holds rows already, and a load never adds to other data. {_ELSEWHERE}"
            )


def _copy_attempts(
    connection: Connection,
    student_id: npt.NDArray[Any],
    item_id: npt.NDArray[Any],
    is_correct: npt.NDArray[np.int8],
    created_us: npt.NDArray[np.int64],
) -> None:
    def rows() -> Iterator[tuple[str, str, bool | None, str]]:
        for start in range(0, is_correct.size, CHUNK):
            part = slice(start, start + CHUNK)
            # The zone is for timestamptz. A column without a zone ignores it and holds UTC.
            times = [f"{time}+00" for time in np.datetime_as_string(created_us[part].astype("M8[us]"))]
            graded = [_GRADED[grade] for grade in is_correct[part].tolist()]
            yield from zip(student_id[part].tolist(), item_id[part].tolist(), graded, times, strict=True)

    _copy(connection, "attempts", ("student_id", "item_id", "is_correct", "created_at"), rows())


def _copy(
    connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    target = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    try:
        with driver.cursor() as cursor:
            with cursor.copy(target) as copy:
                for row in rows:
                    copy.write_row(row)
            # Without this, Postgres would plan the first night's queries for empty tables.
            cursor.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))
    except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError) as error:
        # The detail quotes the whole row, with the student. For a DataError, the first line quotes a value too.
        problem = (
            "a value does not fit" if isinstance(error, psycopg.DataError) else error.diag.message_primary
        )
        raise SourceSchemaError(
            f"The table {table} does not take {', '.join(columns)} alone: {problem} (SQLSTATE {error.sqlstate}). "
            f"{_ELSEWHERE}"
        ) from None
