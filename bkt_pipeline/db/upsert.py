"""Upserts of our own rows, and the locks that serialise writers of a skill."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table, func, text
from sqlalchemy.dialects.postgresql import insert
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
    rows: Sequence[Mapping[str, Any]],
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
    return set(connection.execute(statement, list(rows)).scalars())


# Building a statement with fifty columns takes ten times as long as running it.
@lru_cache(maxsize=64)
def _statement(
    table: Table,
    names: tuple[str, ...],
    keys: tuple[str, ...],
    guard: Guard | None,
    stamp: str | None,
) -> ReturningInsert[Any]:
    statement = insert(table)
    if stamp:
        statement = statement.values({stamp: func.now()})
        names = (*names, stamp)
    if guard is never:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    else:
        statement = statement.on_conflict_do_update(
            index_elements=keys,
            set_={name: statement.excluded[name] for name in names if name not in keys},
            where=guard(statement.excluded, table.c) if guard else None,
        )
    return statement.returning(table.c[keys[-1]])
