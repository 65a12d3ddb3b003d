"""Upserts of our own rows, and the locks that serialise writers of a skill."""

import json
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table, TableValuedAlias, Text, bindparam, cast, column, func, select, text
from sqlalchemy.dialects.postgresql import JSON, insert
from sqlalchemy.sql.dml import ReturningInsert

# Whether the new row replaces the stored one, given the columns of both.
Guard = Callable[[Any, Any], Any]

_LOCK = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('bkt_pipeline:' || key, 0)) FROM unnest(CAST(:keys AS text[])) AS key"
)


def lock_skills(connection: Connection, keys: Sequence[str]) -> None:
    """Lock the skills until the transaction ends; every writer of a skill does this first.

    The locks are taken in the order of the keys, so that two batches with common skills wait for each other instead
    of deadlocking.
    """
    connection.execute(_LOCK, {"keys": sorted(keys)})


def unless_newer(new: Any, stored: Any) -> Any:
    """Keep the stored row if its as_of is newer."""
    return new.as_of >= stored.as_of


def never(new: Any, stored: Any) -> Any:
    """Always keep the stored row."""
    raise AssertionError("never is not evaluated: the statement does nothing on conflict")


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[dict[str, Any]],
    *,
    keys: Sequence[str],
    guard: Guard | None = None,
    stamp: str | None = None,
) -> set[Any]:
    """Insert the rows, or update those whose `keys` exist; returns the last key of each row that was written.

    All rows must have the same columns and distinct keys. A stored row is replaced only if `guard` allows it; without
    a guard it is always replaced. The column `stamp` gets the transaction's time.
    """
    if not rows:
        return set()
    statement = _statement(table, tuple(rows[0]), tuple(keys), guard, stamp)
    return set(connection.execute(statement, {"rows": as_json(rows)}).scalars())


def as_json(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as one parameter: with one for each value, writing the statement takes longer than running it.

    Postgres reads each value as it reads a literal, so every number arrives as it is.
    """
    # Not every encoding of a database has an escape for every character.
    options: dict[str, Any] = {"default": str, "allow_nan": False, "ensure_ascii": False}
    try:
        return json.dumps(rows, **options)
    except ValueError:
        # Rows with NaN or infinity are rare.
        finite = [{name: _finite(value) for name, value in row.items()} for row in rows]
        return json.dumps(finite, **options)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity; Postgres reads them from text."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(float(value))
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def given_table(table: Table, names: Sequence[str]) -> TableValuedAlias:
    """The rows in the parameter `rows`, as `as_json` writes them, with these columns of the table."""
    kinds = [column(name, table.c[name].type) for name in names]
    given = func.json_to_recordset(cast(bindparam("rows", type_=Text()), JSON)).table_valued(*kinds)
    return given.render_derived(name="given", with_types=True)


# Building a statement with fifty columns takes ten times as long as running it.
@lru_cache(maxsize=64)
def _statement(
    table: Table,
    names: tuple[str, ...],
    keys: tuple[str, ...],
    guard: Guard | None,
    stamp: str | None,
) -> ReturningInsert[Any]:
    source = given_table(table, names)
    values = {name: source.c[name] for name in names} | ({stamp: func.now()} if stamp else {})
    statement = insert(table).from_select(list(values), select(*values.values()))
    if guard is never:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    else:
        statement = statement.on_conflict_do_update(
            index_elements=keys,
            set_={name: statement.excluded[name] for name in values if name not in keys},
            where=guard(statement.excluded, table.c) if guard else None,
        )
    return statement.returning(table.c[keys[-1]])
