"""The platform's tables and views, as the catalogue describes them.

SQLAlchemy's own reflection cannot handle domains, extension types and views without a key. This module reads what
a night needs to know about any relation in one statement: its kind, its key, and each column's base type and
collation.
"""

import uuid
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from itertools import groupby
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Row,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    bindparam,
    text,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import TypeEngine, UserDefinedType

KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialised view",
    "f": "foreign table",
}
VIEW, MATERIALISED, FOREIGN, PARTITIONED = "v", "m", "f", "p"
INTEGER_BITS = {SmallInteger: 15, Integer: 31, BigInteger: 63}


class PlatformType(UserDefinedType[str]):
    """A type that SQLAlchemy has no class for, such as citext: values are text, bound as this type."""

    render_bind_cast = True
    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


_TYPES: dict[str, TypeEngine[Any]] = {
    "uuid": Uuid(),
    "text": Text(),
    "varchar": String(),
    "int2": SmallInteger(),
    "int4": Integer(),
    "int8": BigInteger(),
    "numeric": Numeric(),
    "float4": Double(),
    "float8": Double(),
    "bool": Boolean(),
    "timestamptz": TIMESTAMP(timezone=True),
    "timestamp": TIMESTAMP(),
}
# Types whose equal values can differ as text. A column with a nondeterministic collation is another case.
_EQUAL_BUT_DIFFERENT = ("citext", "bpchar", "numeric", "float4", "float8")

_RELATIONS = text(
    """
    WITH RECURSIVE schemas AS (
        SELECT CASE WHEN cast(:schema AS text) IS NULL THEN current_schemas(true)::text[]
                    ELSE ARRAY[cast(:schema AS text)] END AS names
    ),
    found AS (
        SELECT DISTINCT ON (c.relname) c.oid, n.nspname, c.relname, c.relkind
        FROM schemas, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = ANY(:names) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname = ANY(schemas.names)
        ORDER BY c.relname, array_position(schemas.names, n.nspname::text)
    ),
    base AS (
        SELECT a.attrelid, a.attnum, t.oid, t.typtype, t.typbasetype, t.typnotnull, t.typdefault IS NOT NULL AS filled
        FROM found JOIN pg_attribute a ON a.attrelid = found.oid JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT b.attrelid, b.attnum, t.oid, t.typtype, t.typbasetype, t.typnotnull OR b.typnotnull,
               t.typdefault IS NOT NULL OR b.filled
        FROM base b JOIN pg_type t ON t.oid = b.typbasetype
        WHERE b.typtype = 'd'
    )
    SELECT found.oid, found.nspname AS schema, found.relname AS relation, found.relkind AS kind, a.attname AS name,
           n.nspname AS type_schema, t.typname AS type_name, format_type(t.oid, NULL) AS type_shown,
           a.attnotnull OR base.typnotnull AS required, a.attgenerated <> '' AS generated,
           a.attidentity <> '' AS identity, a.atthasdef OR base.filled AS filled,
           CASE WHEN NOT l.collisdeterministic THEN quote_ident(ln.nspname) || '.' || quote_ident(l.collname) END
               AS collation,
           array_position(i.indkey::int2[], a.attnum) AS key_place
    FROM found
    JOIN base ON base.attrelid = found.oid AND base.typtype <> 'd'
    JOIN pg_attribute a ON a.attrelid = found.oid AND a.attnum = base.attnum
    JOIN pg_type t ON t.oid = base.oid
    JOIN pg_namespace n ON n.oid = t.typnamespace
    LEFT JOIN pg_collation l ON l.oid = a.attcollation
    LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace
    LEFT JOIN pg_index i ON i.indrelid = found.oid AND i.indisprimary
    ORDER BY found.relname, a.attnum
    """
).bindparams(bindparam("names", type_=ARRAY(Text)), bindparam("schema", type_=Text))


def find_relations(connection: Connection, names: Sequence[str], schema: str | None) -> dict[str, Table]:
    """The relations with these names in `schema`, or on the search path; missing ones are left out.

    `Table.info` has the kind and the oid. `Column.info` has the type as SQL shows it, the collation if it is
    nondeterministic, and whether the database fills the column. A column of a domain gets the domain's base type.
    """
    rows = connection.execute(_RELATIONS, {"names": list(names), "schema": schema})
    return {name: _table(list(columns)) for name, columns in groupby(rows, key=lambda row: row.relation)}


def _table(rows: Sequence[Row[Any]]) -> Table:
    key = sorted((row.key_place, row.name) for row in rows if row.key_place is not None)
    return Table(
        rows[0].relation,
        MetaData(),
        *(_column(row) for row in rows),
        PrimaryKeyConstraint(*(name for _, name in key)),
        schema=rows[0].schema,
        info={"kind": rows[0].kind, "oid": rows[0].oid},
    )


def _column(row: Row[Any]) -> Column[Any]:
    kind = _TYPES.get(row.type_name) if row.type_schema == "pg_catalog" else None
    return Column(
        row.name,
        kind or PlatformType(f'"{row.type_schema}"."{row.type_name}"'),
        nullable=not row.required,
        info={
            "type": row.type_shown,
            "type_name": row.type_name,
            "collation": row.collation,
            "generated": row.generated,
            "filled": row.filled or row.identity or row.generated,
        },
    )


def kind_of(table: Table) -> str:
    """The kind of the relation as a phrase, such as "materialised view"."""
    return KINDS[table.info["kind"]]


def is_text(column: Column[Any]) -> bool:
    """Whether the column holds text of some kind."""
    return column.info["type_name"] in ("text", "varchar", "bpchar", "citext")


def equal_values_may_differ(column: Column[Any]) -> bool:
    """Whether two equal values of the column can differ as text."""
    return column.info["type_name"] in _EQUAL_BUT_DIFFERENT or column.info["collation"] is not None


def id_value(column: Column[Any], text: str) -> Any:
    """Convert an id that was read as text to its column's own type, so that queries use the index.

    Raises
    ------
    ValueError
        Postgres would not write a value of that type in this form.
    """
    if isinstance(column.type, Uuid):
        value: Any = uuid.UUID(text)
    elif isinstance(column.type, Integer):
        value = int(text)
        if not -(2 ** INTEGER_BITS[type(column.type)]) <= value < 2 ** INTEGER_BITS[type(column.type)]:
            raise ValueError(f"{text} is out of range")
    elif isinstance(column.type, Numeric):
        try:
            return Decimal(text)
        except InvalidOperation:
            raise ValueError(f"{text} is not a number") from None
    else:
        return text
    if str(value) != text:
        raise ValueError(f"{text} is not written as Postgres writes it")
    return value
