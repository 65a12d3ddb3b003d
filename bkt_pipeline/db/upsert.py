"""The one way a row of ours is written."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects.postgresql import insert


def upsert(
    connection: Connection,
    table: Table,
    values: Mapping[str, Any],
    *,
    keys: Sequence[str],
    newest: str | None = None,
    replace: bool = True,
) -> bool:
    """Insert the row, or update the one that has its `keys`; says whether anything was written.

    With `newest`, a stored row that has a greater value in that column stays as it is; without
    `replace`, any stored row does.
    """
    statement = insert(table).values(values)
    if replace:
        statement = statement.on_conflict_do_update(
            index_elements=list(keys),
            set_={name: statement.excluded[name] for name in values if name not in keys},
            where=statement.excluded[newest] >= table.c[newest] if newest else None,
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=list(keys))
    return connection.execute(statement.returning(table.c[keys[0]])).first() is not None
