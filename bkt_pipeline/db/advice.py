"""Statements for the platform's owner to run: indexes to create, and views that adapt tables with other names."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, Table, text

from bkt_pipeline.db.permissions import name_of
from bkt_pipeline.db.platform import REQUIRED_COLUMNS, Source, has_usable_type
from bkt_pipeline.db.relations import FOREIGN, PARTITIONED, VIEW, find_relations

ADAPTER_SCHEMA = "bkt_source"

_PLACEHOLDERS = {
    "skills": ("YOUR_SKILLS", {"id": "YOUR_ID AS id", "active": "NOT YOUR_RETIRED AS active"}),
    "items": ("YOUR_ITEMS", {"id": "YOUR_ID AS id", "skill_id": "YOUR_SKILL_ID AS skill_id"}),
    "attempts": (
        "YOUR_ANSWERS",
        {
            "id": "YOUR_ID AS id",
            "student_id": "YOUR_USER_ID AS student_id",
            "item_id": "YOUR_QUESTION_ID AS item_id",
            "is_correct": "YOUR_SCORE = 1 AS is_correct",
            "created_at": "YOUR_TIME AS created_at",
        },
    ),
}

_BEHIND = text(
    """
    WITH RECURSIVE behind AS (
        SELECT cast(:oid AS oid) AS oid, 'v'::"char" AS relkind
        UNION
        SELECT c.oid, c.relkind
        FROM behind JOIN pg_rewrite r ON r.ev_class = behind.oid
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> behind.oid
        JOIN pg_class c ON c.oid = d.refobjid
        WHERE behind.relkind = 'v'
    )
    SELECT oid::regclass::text FROM behind WHERE relkind IN ('r', 'p', 'm') ORDER BY 1
    """
)
_INDEXES = text(
    """
    SELECT ARRAY(
        SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.place
    ) FROM pg_index i WHERE i.indrelid = cast(:oid AS oid) AND i.indisvalid AND i.indpred IS NULL
    """
)


def missing_indexes(connection: Connection, source: Source) -> list[str]:
    """A statement for each index that a night needs and the platform lacks. The owner decides whether to create it.

    Indexes are created CONCURRENTLY, except on partitioned tables, where Postgres does not support it. For a view, the
    line names the tables behind it. Foreign tables are skipped, because their indexes are in another database.
    """
    included = dict.fromkeys(
        column.name
        for column in (
            source.attempts.c.student_id,
            source.attempts.c.is_correct,
            *source.attempt_order[1:],
        )
        if column.name not in ("item_id", "created_at")
    )
    wanted: tuple[tuple[Table, list[str], Sequence[str]], ...] = (
        (source.attempts, ["item_id", "created_at"], tuple(included)),
        (source.items, ["skill_id"], ()),
    )
    return [line for one in wanted if (line := _missing_index(connection, *one))]


def _missing_index(
    connection: Connection, table: Table, columns: list[str], included: Sequence[str]
) -> str | None:
    kind = table.info["kind"]
    if kind == FOREIGN:
        return None
    if kind == VIEW:
        behind = ", ".join(connection.execute(_BEHIND, table.info).scalars())
        return behind and (
            f"-- {table.name} is a view of {behind}: make sure that what it shows as {' and '.join(columns)} is indexed"
        )
    present = connection.execute(_INDEXES, table.info).scalars()
    if any(leading[: len(columns)] == columns for leading in present):
        return None
    concurrently = "" if kind == PARTITIONED else "CONCURRENTLY "
    quote = connection.dialect.identifier_preparer.quote
    include = f" INCLUDE ({', '.join(map(quote, included))})" if included else ""
    return f"CREATE INDEX {concurrently}ON {name_of(connection, table)} ({', '.join(columns)}){include};" + (
        " -- blocks writing while it runs" if kind == PARTITIONED else ""
    )


def _shown(table: Table | None, column: str, expression: str) -> str:
    """The column of an adapting view: as the table has it, cast to text, or the expression with placeholders."""
    if table is None or column not in table.c:
        return expression
    if has_usable_type(table.c[column]):
        return column
    return f"{column}::text AS {column}" if column.endswith("id") else expression


def adapting_views(connection: Connection, schema: str | None = None) -> Iterator[str]:
    """Three CREATE VIEW statements that show a platform's tables with the names and columns that a night reads.

    Words in capitals are placeholders. If one of the names is taken, the views go into a schema of their own, and
    BKT_SOURCE_SCHEMA must be set to it.
    """
    found = find_relations(connection, tuple(REQUIRED_COLUMNS), schema)
    prefix = f"{ADAPTER_SCHEMA}." if found else ""
    quote = connection.dialect.identifier_preparer.quote
    if prefix:
        yield f"CREATE SCHEMA {ADAPTER_SCHEMA};"
    for name, (placeholder, columns) in _PLACEHOLDERS.items():
        table = found.get(name)
        shown = [_shown(table, column, expression) for column, expression in columns.items()]
        origin = placeholder if table is None else f"{quote(table.schema or '')}.{quote(table.name)}"
        # Printed for the user, never run.
        yield f"CREATE VIEW {prefix}{name} AS SELECT {', '.join(shown)} FROM {origin};"  # noqa: S608
    if prefix:
        yield f"-- then set BKT_SOURCE_SCHEMA={ADAPTER_SCHEMA}"
