"""The one way a row of ours is written."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    Table,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert


def upsert(
    connection: Connection,
    table: Table,
    values: Mapping[str, Any],
    *,
    keys: Sequence[str],
    newest: str | None = None,
    replace: bool = True,
    stamp: str | None = None,
) -> bool:
    """Insert the row, or update the one that has its `keys`; says whether anything was written.

    With `newest`, a stored row that has a greater value in that column stays as it is; without
    `replace`, any stored row does. The column `stamp` gets the transaction's time.
    """
    statement = _statement(table, tuple(values), tuple(keys), newest, replace, stamp)
    return connection.execute(statement, values).first() is not None


# To build a statement of fifty columns takes ten times as long as to run it, and a night has several a skill.
@lru_cache(maxsize=64)
def _statement(
    table: Table,
    names: tuple[str, ...],
    keys: tuple[str, ...],
    newest: str | None,
    replace: bool,
    stamp: str | None,
) -> ReturningInsert[Any]:
    statement = insert(table)
    if stamp:
        statement = statement.values({stamp: func.now()})
        names = (*names, stamp)
    if replace:
        statement = statement.on_conflict_do_update(
            index_elements=keys,
            set_={name: statement.excluded[name] for name in names if name not in keys},
            where=statement.excluded[newest] >= table.c[newest] if newest else None,
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    return statement.returning(table.c[keys[0]])


# Built once: to build a statement takes longer than to run one, and these run for each skill.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


def lock_skill(connection: Connection, skill_id: str) -> None:
    """Hold the skill until the transaction ends; whoever writes something of it takes this first."""
    connection.execute(_LOCK, {"name": f"bkt_pipeline:{skill_id}"})


_LOCKS = text(
    "SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest(CAST(:names AS text[])) AS name"
)


def lock_skills(connection: Connection, skill_ids: Sequence[str]) -> None:
    """Lock several skills as `lock_skill` does, in the order given.

    Pass them sorted, as Python sorts str: transactions that lock in one order cannot deadlock.
    """
    connection.execute(_LOCKS, {"names": [f"bkt_pipeline:{skill_id}" for skill_id in skill_ids]})
