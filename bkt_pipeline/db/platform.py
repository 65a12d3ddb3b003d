"""The platform's tables: what we need from them, and what the catalogue says about them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Double,
    Integer,
    Numeric,
    Table,
    TableValuedAlias,
    Text,
    Uuid,
    bindparam,
    cast,
    column,
    func,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.permissions import require_readable, role_name
from bkt_pipeline.db.relations import find_relations, id_value, is_text, kind_of
from bkt_pipeline.db.retry import reason, sqlstate
from bkt_pipeline.db.target import create_target, find_target
from bkt_pipeline.errors import DatabaseError, PermissionMissing, SourceSchemaError

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
        "created_at": "When it was answered, UTC where the column has no time zone",
    },
}


REQUIRED_COLUMNS = {name: tuple(columns) for name, columns in SOURCE_COMMENTS.items()}


# Columns that can order attempts with the same time. Without any of them, a primary key is needed.
ORDER_COLUMNS = ("attempt_order", "id")

_IDS: tuple[type, ...] = (Uuid, Integer, Numeric)
_ID = (_IDS, "uuid, text, varchar, citext or a whole number")
# The types that a night can read, and how a message names them. The same columns are ids in every table.
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("id", "skill_id", "item_id"), _ID),
    "active": ((Boolean,), "boolean"),
    "is_correct": ((Boolean, Integer, Numeric, Double), "boolean, or a number 0 or 1"),
    "created_at": ((DateTime,), "timestamp with or without time zone"),
}


@dataclass(frozen=True)
class Source:
    """The platform's tables that we read. Their own column types are used to bind parameters."""

    skills: Table
    items: Table
    attempts: Table

    @property
    def attempt_order(self) -> tuple[Column[Any], ...]:
        """What puts a student's attempts in order: time, then attempt_order where it exists, then the key."""
        return (self.attempts.c.created_at, *self._order_columns)

    @property
    def order_is_total(self) -> bool:
        """Whether attempts with the same time have a known order.

        They have one if there is a numeric column attempt_order, or if the key consists of numbers, which grow in
        the order in which rows are stored. The order of uuids or texts does not show which answer came first, nor
        does an item id. The student and the time are ignored, because they are equal among these attempts.
        """
        if "attempt_order" in self.attempts.c:
            return _is_number(self.attempts.c.attempt_order)
        left = [c for c in self._order_columns if c.name not in ("student_id", "created_at")]
        return all(isinstance(c.type, Integer | Numeric) and c.name != "item_id" for c in left)

    @property
    def _order_columns(self) -> tuple[Column[Any], ...]:
        attempts = self.attempts
        key = tuple(attempts.primary_key.columns) or tuple(attempts.c[n] for n in ("id",) if n in attempts.c)
        first = (attempts.c.attempt_order,) if "attempt_order" in attempts.c else ()
        return (*first, *(c for c in key if c not in first))

    @property
    def zoned(self) -> bool:
        """Whether attempts.created_at carries a time zone (else it holds UTC)."""
        return bool(getattr(self.attempts.c.created_at.type, "timezone", False))

    @property
    def is_right(self) -> ColumnElement[bool]:
        """Whether the answer was right. A numeric grade is right if it is 1; `odd_grade` finds invalid ones."""
        grade = self.attempts.c.is_correct
        return grade if isinstance(grade.type, Boolean) else grade == 1

    @property
    def odd_grade(self) -> ColumnElement[bool] | None:
        """Whether the grade is a number other than 0 and 1; None if the column is a boolean."""
        grade = self.attempts.c.is_correct
        return None if isinstance(grade.type, Boolean) else grade.not_in((0, 1))

    def skill_ids(self, keys: Iterable[str]) -> list[Any]:
        """Partition keys as values of skills.id's own type.

        Raises
        ------
        SourceSchemaError
            A key is not a value of that type: the partition comes from another database.
        """
        return [_value_of(self.skills.c.id, key) for key in keys]

    def is_skill(self, skill_id: ColumnElement[Any], key: ColumnElement[Any]) -> ColumnElement[bool]:
        """Whether `skill_id` is the skill of this partition key, compared as values of skills.id.

        The key is cast to the type of skills.id. Casting the column to text instead would bypass its index, and
        would ignore how the platform compares citext and nondeterministic collations.
        """
        ids = self.skills.c.id
        value: ColumnElement[Any] = (
            key if is_text(ids) and isinstance(ids.type, Text) else cast(key, ids.type)
        )
        if ids.info["collation"]:
            # The collation of skills.id decides, as in a foreign key to skills.
            value = value.op("COLLATE")(literal_column(ids.info["collation"]))
        return skill_id == value


@dataclass(frozen=True)
class Platform(Source):
    """The source tables plus the target table."""

    target: Table

    def target_ids(self, keys: Iterable[str]) -> list[Any]:
        """Partition keys as values of skill_bkt_params.skill_id's own type."""
        return [_value_of(self.target.c.skill_id, key) for key in keys]


def requested_keys() -> TableValuedAlias:
    """The parameter `keys` as a table in a statement, with the columns `key` and `number` (from 1)."""
    keys = func.unnest(bindparam("keys", type_=ARRAY(Text)))
    return keys.table_valued(column("key", Text), with_ordinality="number").render_derived("given")


def _value_of(ids: Column[Any], key: str) -> Any:
    try:
        return id_value(ids, key)
    except ValueError:
        raise SourceSchemaError(
            f"skill {key!r} is not a {ids.info['type']}, as {ids.table.name}.{ids.name} is; the partition comes "
            "from another database: materialise active_skills to bring partitions and skills together"
        ) from None


def _is_number(column: Column[Any]) -> bool:
    return isinstance(column.type, Integer | Numeric | Double | DateTime)


def reflect_source(connection: Connection, schema: str | None = None) -> Source:
    """Read the platform's source tables from the catalogue and check that they are usable.

    They may be tables, partitioned tables, views, materialised views or foreign tables. They are looked for in
    `schema`, or in the search path if it is None. Nothing is created.

    Raises
    ------
    SourceSchemaError
        A table or column is missing, has the wrong type, or nothing orders the attempts.
    PermissionMissing
        This role may not read all of the tables, or row-level security would hide rows from it.
    """
    tables = find_relations(connection, tuple(REQUIRED_COLUMNS), schema)
    if missing := [name for name in REQUIRED_COLUMNS if name not in tables]:
        raise _missing_tables(connection, missing, schema)
    for name, columns in REQUIRED_COLUMNS.items():
        if lacks := [column for column in columns if column not in tables[name].c]:
            raise SourceSchemaError(
                f"{kind_of(tables[name])} {name} has no column {', '.join(lacks)}; "
                f"it has {', '.join(tables[name].c.keys())}"
            )
    source = Source(**tables)
    _require_types(source)
    if len(source.attempt_order) == 1:
        raise SourceSchemaError(
            f"{kind_of(source.attempts)} attempts has neither a primary key nor a column "
            f"{' or '.join(reversed(ORDER_COLUMNS))} to order attempts with equal created_at; "
            "add a column attempt_order with increasing numbers"
        )
    require_readable(connection, source.skills, REQUIRED_COLUMNS["skills"])
    require_readable(connection, source.items, REQUIRED_COLUMNS["items"])
    order = [column.name for column in source.attempt_order]
    require_readable(
        connection, source.attempts, tuple(dict.fromkeys([*REQUIRED_COLUMNS["attempts"], *order]))
    )
    _require_joins(connection, source)
    return source


def _require_joins(connection: Connection, source: Source) -> None:
    pairs = (
        (source.skills.c.id, source.items.c.skill_id),
        (source.items.c.id, source.attempts.c.item_id),
    )
    for one, other in pairs:
        try:
            with connection.begin_nested():
                connection.execute(
                    select(literal(1)).select_from(one.table.join(other.table, one == other)).limit(0)
                )
        except DBAPIError as error:
            if not (sqlstate(error) or "").startswith("42"):
                raise
            raise SourceSchemaError(
                f"{one.table.name}.{one.name} is {one.info['type']} and {other.table.name}.{other.name} is "
                f"{other.info['type']}, which Postgres cannot compare: {reason(error)}; give them one type, or convert one "
                "in a view (see bkt-pipeline doctor)"
            ) from None


def reflect(connection: Connection, schema: str | None = None) -> Platform:
    """The source tables and `skill_bkt_params`, which is created if it is missing and never altered.

    Raises
    ------
    SourceSchemaError, PermissionMissing
        As in `reflect_source`, or an existing `skill_bkt_params` does not accept a night's rows.
    """
    source = reflect_source(connection, schema)
    target = find_target(connection, source.skills, schema)
    if target is None:
        create_target(connection, source.skills, schema)
        target = find_target(connection, source.skills, schema)
    assert target is not None
    return Platform(source.skills, source.items, source.attempts, target)


def _require_types(source: Source) -> None:
    skills, items, attempts = source.skills.c, source.items.c, source.attempts.c
    for one in (skills.active, attempts.is_correct, attempts.created_at, skills.id, items.id):
        if not has_usable_type(one):
            raise SourceSchemaError(
                f"{one.table.name}.{one.name} is {one.info['type']}; expected {_TYPES[one.name][1]} "
                "(a view can convert it, see bkt-pipeline doctor)"
            )


def has_usable_type(column: Column[Any]) -> bool:
    """Whether a night can read the column, one of those in `REQUIRED_COLUMNS`."""
    kinds, _ = _TYPES.get(column.name, (None, ""))
    return kinds is None or isinstance(column.type, kinds) or (kinds is _IDS and is_text(column))


def _missing_tables(connection: Connection, missing: Sequence[str], schema: str | None) -> DatabaseError:
    elsewhere = connection.execute(
        text(
            "SELECT DISTINCT n.nspname, quote_ident(n.nspname) AS quoted,"
            " NOT has_schema_privilege(n.oid, 'USAGE') AND n.nspname = ANY("
            " string_to_array(replace(current_setting('search_path'), ' ', ''), ',')) AS closed"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relname = ANY(:names) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1"
        ).bindparams(bindparam("names", list(missing), ARRAY(Text)))
    ).all()
    if closed := [row.quoted for row in elsewhere if row.closed and schema is None]:
        role, where = role_name(connection), ", ".join(closed)
        return PermissionMissing(
            f"the role {role} may not use the schema {where}; issue: GRANT USAGE ON SCHEMA {where} TO {role};"
        )
    found = [row.nspname for row in elsewhere if row.nspname != schema]
    where = f"schema {schema} (BKT_SOURCE_SCHEMA)" if schema else "search path"
    hint = (
        f"; there is one in the schema {', '.join(found)}: set BKT_SOURCE_SCHEMA to it, and make sure that this "
        "role has USAGE on it"
        if found
        else "; bkt-pipeline doctor prints views that adapt tables of other names"
    )
    return SourceSchemaError(f"the database has no table {', '.join(missing)} in its {where}{hint}")
