"""The platform's tables: what we rely on, and what reflection found."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    DateTime,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    Uuid,
    func,
    inspect,
    select,
)

from bkt_pipeline.db.schema import PARAMETERS, moment
from bkt_pipeline.errors import SourceSchemaError

TARGET = "skill_bkt_params"


SOURCE_COMMENTS = {
    "skills": {
        "id": "Skill; its text is the partition key",
        "active": "Whether the skill is taught now, and so calibrated",
    },
    "items": {"id": "Item", "skill_id": "Skill that the item practises"},
    "attempts": {
        "student_id": "Student who answered",
        "item_id": "Item that was answered",
        "is_correct": "Whether the answer was right; NULL while it is not graded",
        "created_at": "When it was answered, UTC where the column bears no zone",
    },
}


REQUIRED_COLUMNS = {name: tuple(columns) for name, columns in SOURCE_COMMENTS.items()}


TARGET_COMMENTS = {
    "skill_id": "Skill that the parameters belong to",
    **PARAMETERS,
    "log_likelihood": "Of the window's answers under these parameters, in nats",
    "calibrated_at": "When the row was written",
}


@dataclass(frozen=True)
class Source:
    """The platform's tables that we read, as reflected: their own id and time types, so that we bind with them."""

    skills: Table
    items: Table
    attempts: Table

    @property
    def attempt_order(self) -> tuple[Column[Any], ...]:
        """What puts a student's attempts in order: time, then the primary key."""
        return (self.attempts.c.created_at, *self.attempts.primary_key.columns)

    @property
    def zoned(self) -> bool:
        """Whether attempts.created_at carries a time zone (else it holds UTC)."""
        return bool(getattr(self.attempts.c.created_at.type, "timezone", False))

    def skill_ids(self, keys: Iterable[str]) -> list[Any]:
        """Partition keys as values of skills.id's own type.

        Raises
        ------
        SourceSchemaError
            A key is no value of that type: the partition is of another database.
        """
        kind = self.skills.c.id.type
        values = []
        for key in keys:
            try:
                values.append(id_value(self.skills.c.id, key))
            except ValueError:
                raise SourceSchemaError(
                    f"skill {key!r} is no {kind} as skills.id is; the partition stems from another database: "
                    "materialise active_skills to bring partitions and skills together"
                ) from None
        return values


@dataclass(frozen=True)
class Platform(Source):
    """The same with the table that we write."""

    target: Table


def id_value(column: Column[Any], text: str) -> Any:
    """An id that was read as text, as a value of its column's own type, so that the index is used."""
    if isinstance(column.type, Uuid):
        return uuid.UUID(text)
    return int(text) if isinstance(column.type, Integer) else text


def reflect_source(connection: Connection) -> Source:
    """Read the platform's source tables from the catalogue and make sure that we can rely on them.

    Raises
    ------
    SourceSchemaError
        A table, a column, its type or the primary key is not what calibration needs.
    """
    found = inspect(connection)
    present = {*found.get_table_names(), *found.get_view_names()}
    if missing := [name for name in REQUIRED_COLUMNS if name not in present]:
        raise SourceSchemaError(
            f"the database has no table {', '.join(missing)} in its search path; "
            "skills, items and attempts are read from there (see the README for their columns)"
        )
    metadata = MetaData()
    tables = {
        name: Table(name, metadata, autoload_with=connection, resolve_fks=False) for name in REQUIRED_COLUMNS
    }
    for name, columns in REQUIRED_COLUMNS.items():
        for column in columns:
            if column not in tables[name].c:
                raise SourceSchemaError(
                    f"table {name} has no column {column}; it has {', '.join(tables[name].c.keys())}"
                )
    source = Source(**tables)
    _require_type(source.skills.c.active, Boolean)
    _require_type(source.attempts.c.is_correct, Boolean)
    _require_type(source.attempts.c.created_at, DateTime)
    for ids in (source.skills.c.id, source.items.c.id):
        _require_type(ids, (Uuid, String, Integer))
    if not source.attempts.primary_key.columns:
        raise SourceSchemaError(
            "table attempts has no primary key; it settles the order of attempts that bear the same created_at"
        )
    return source


def reflect(connection: Connection) -> Platform:
    """The source tables, and `skill_bkt_params`: created where it is missing, never altered.

    Raises
    ------
    SourceSchemaError
        As `reflect_source`; or a `skill_bkt_params` that exists lacks a column.
    """
    source = reflect_source(connection)
    if not inspect(connection).has_table(TARGET):
        _create_target(connection, source.skills)
    target = Table(TARGET, MetaData(), autoload_with=connection, resolve_fks=False)
    if lacks := [column for column in TARGET_COMMENTS if column not in target.c]:
        raise SourceSchemaError(
            f"table {TARGET} has no column {', '.join(lacks)}; we never alter one that exists"
        )
    return Platform(source.skills, source.items, source.attempts, target)


def _create_target(connection: Connection, skills: Table) -> None:
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("bkt_pipeline:migrate", 0))))
    types = {"skill_id": skills.c.id.type, "calibrated_at": moment}
    Table(
        TARGET,
        MetaData(),
        *(
            Column(
                name,
                types.get(name, Double()),
                primary_key=name == "skill_id",
                autoincrement=False,
                nullable=name == "log_likelihood",
                comment=comment,
            )
            for name, comment in TARGET_COMMENTS.items()
        ),
    ).create(connection, checkfirst=True)


def _require_type(column: Column[Any], kind: type | tuple[type, ...]) -> None:
    if not isinstance(column.type, kind):
        names = " or ".join(k.__name__.lower() for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise SourceSchemaError(f"{column.table.name}.{column.name} is {column.type}; expected {names}")
