"""Metadata of tables in the Dagster UI: their names, columns and column descriptions."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from bkt_pipeline.db.schema import SCHEMA
from bkt_pipeline.db.target import TARGET, TARGET_COMMENTS

OWNERS = ["team:learning-analytics"]


_POSTGRES: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
_ID = "uuid, text or bigint"


_PLATFORM_TYPES = {
    **dict.fromkeys(("id", "skill_id", "item_id", "student_id"), _ID),
    **dict.fromkeys(("active", "is_correct"), "boolean"),
    **dict.fromkeys(("created_at", "calibrated_at"), "timestamp"),
}


def own_table(table: Table) -> dict[str, Any]:
    """Metadata of one of our own tables: its name and its columns, with the comments from the schema."""
    columns = [
        dg.TableColumn(
            column.name,
            column.type.compile(_POSTGRES).lower(),
            column.comment,
            dg.TableColumnConstraints(nullable=bool(column.nullable)),
        )
        for column in table.columns
    ]
    return _described(f"{SCHEMA}.{table.name}", columns)


def platform_table(name: str, comments: Mapping[str, str]) -> dict[str, Any]:
    """Metadata of a table in the platform's schema: its name and the columns that we use."""
    columns = [
        dg.TableColumn(column, _PLATFORM_TYPES.get(column, "double precision"), comment)
        for column, comment in comments.items()
    ]
    return _described(name, columns)


def target_table() -> dict[str, Any]:
    """Metadata of skill_bkt_params, which the backend reads."""
    return platform_table(TARGET, TARGET_COMMENTS)


def _described(name: str, columns: list[dg.TableColumn]) -> dict[str, Any]:
    return {"dagster/table_name": name, "dagster/column_schema": dg.TableSchema(columns)}
