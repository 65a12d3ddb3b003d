"""Item parameters: the statements that store them, show them to the platform, read them back, and keep their ledger."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from sqlalchemy import (
    ARRAY,
    Connection,
    Double,
    RowMapping,
    Table,
    TableValuedAlias,
    Text,
    Update,
    any_,
    bindparam,
    case,
    cast,
    column,
    func,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert
from sqlalchemy.types import TypeEngine

from bkt_pipeline.db.platform import Source, id_value
from bkt_pipeline.db.schema import item_irt_params, night_items
from bkt_pipeline.db.upsert import lock_skill, upsert
from bkt_pipeline.model.irt.fits import ItemFits, ItemFlag
from bkt_pipeline.model.irt.items import SkillItems

PLATFORM_COLUMNS = ("irt_a", "irt_b", "irt_calibrated_at")
NUMBERS = ("irt_a", "irt_b", "se_a", "se_b", "log_likelihood")


@dataclass(frozen=True)
class ItemsOutcome:
    """What became of one skill's items in one night; mirrors the table `night_items`."""

    skill_id: str
    as_of: dt.datetime
    outcome: str
    reason: str | None = None
    calibrated: int = 0
    provisional: int = 0
    skipped: int = 0
    invalid: int = 0
    attempts: int = 0
    log_likelihood: float | None = None


def platform_columns(connection: Connection, source: Source) -> dict[str, bool]:
    """Whether we may write each of the item columns that the platform keeps; empty unless it has all three."""
    if not all(name in source.items.c for name in PLATFORM_COLUMNS):
        return {}
    rows = connection.execute(
        text(
            "SELECT attname, has_column_privilege(attrelid, attnum, 'UPDATE')"
            " AND pg_column_is_updatable(attrelid, attnum, true) FROM pg_attribute"
            " WHERE attrelid = to_regclass('items') AND attname = ANY(:names)"
        ),
        {"names": list(PLATFORM_COLUMNS)},
    )
    return {name: bool(may) for name, may in rows}


def store_items(
    connection: Connection,
    source: Source,
    items: SkillItems,
    as_of: dt.datetime,
    run_id: str,
    *,
    update_platform: bool,
) -> set[str]:
    """Upsert the skill's items, and with `update_platform` the platform's own columns; says whose row was written.

    Rows of a newer as_of stay. An item that was not calibrated gets a row that says why, but never in the place
    of parameters from an earlier night.
    """
    if not len(items):
        return set()
    lock_skill(connection, items.skill_id)
    # Sorted, so that two transactions that write the same items wait and do not lock each other out.
    rows = sorted(_rows(items), key=lambda row: str(row["item_id"]))
    given = {"given_skill": items.skill_id, "given_as_of": as_of, "given_run": run_id}
    written = set(connection.execute(_store_statement(tuple(rows[0])), given | _arrays(rows)).scalars())
    if update_platform:
        shown = [row for row in rows if row["item_id"] in written and row["irt_a"] is not None]
        _update_platform(connection, source.items, shown)
    return written


# Built once: to build such a statement takes longer than to run it, and each skill has one.
@lru_cache(maxsize=8)
def _store_statement(names: tuple[str, ...]) -> ReturningInsert[Any]:
    """Upserts the rows of `_arrays`; wants given_skill, given_as_of and given_run beside them."""
    own = item_irt_params.c
    given = _given({name: Text() if name == "flags" else own[name].type for name in names})
    columns: dict[str, Any] = dict(given.c.items()) | {
        "flags": func.string_to_array(given.c.flags, ","),
        "skill_id": bindparam("given_skill", type_=Text()),
        "as_of": bindparam("given_as_of", type_=own.as_of.type),
        "run_id": bindparam("given_run", type_=Text()),
        "calibrated_at": case((given.c.irt_a.is_not(None), func.now())),
    }
    statement = insert(item_irt_params).from_select(list(columns), select(*columns.values()))
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["item_id"],
        set_={name: new[name] for name in columns if name != "item_id"},
        where=(new.as_of >= own.as_of) & or_(new.irt_a.is_not(None), own.irt_a.is_(None)),
    ).returning(own.item_id)


def _update_platform(connection: Connection, items: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set the platform's item columns in one statement."""
    shown = [
        {"id": id_value(items.c.id, row["item_id"]), "irt_a": row["irt_a"], "irt_b": row["irt_b"]}
        for row in rows
    ]
    if shown:
        connection.execute(_update_statement(items), _arrays(shown))


@lru_cache(maxsize=8)
def _update_statement(items: Table) -> Update:
    given = _given({"id": items.c.id.type, "irt_a": Double(), "irt_b": Double()})
    return (
        items.update()
        .where(items.c.id == given.c.id)
        .values(irt_a=given.c.irt_a, irt_b=given.c.irt_b, irt_calibrated_at=func.now())
    )


def _given(kinds: Mapping[str, TypeEngine[Any]]) -> TableValuedAlias:
    """The rows of `_arrays` as a table in a statement."""
    arrays = [bindparam(f"given_{name}", type_=ARRAY(kind)) for name, kind in kinds.items()]
    columns = [column(name, kind) for name, kind in kinds.items()]
    return func.unnest(*arrays).table_valued(*columns).render_derived(name="given")


def _arrays(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The rows as parameters, an array a column: far less to parse than a parameter a value."""
    return {f"given_{name}": [row[name] for row in rows] for name in rows[0]}


def _rows(items: SkillItems) -> list[dict[str, Any]]:
    """A row an item; what is not a number is NULL."""
    fits = items.fits
    numbers = {
        name: [None if np.isnan(value) else float(value) for value in getattr(fits, name)] for name in NUMBERS
    }
    return [
        {
            "item_id": item_id,
            **{name: numbers[name][place] for name in NUMBERS},
            "n_attempts": int(fits.n_attempts[place]),
            "status": str(fits.status[place]),
            "flags": ",".join(flag_names(int(fits.flags[place]))),
        }
        for place, item_id in enumerate(items.item_ids)
    ]


def flag_names(flags: int) -> list[str]:
    """The flags by name, as they are stored."""
    return [str(flag.name).lower() for flag in ItemFlag if flags & flag]


def load_items(connection: Connection, keys: Sequence[str]) -> dict[str, SkillItems]:
    """The stored items of these skills; a skill without any is not in the result."""
    rows = connection.execute(
        select(item_irt_params)
        .where(item_irt_params.c.skill_id == any_(bindparam("keys", list(keys), ARRAY(Text))))
        .order_by(item_irt_params.c.skill_id, item_irt_params.c.item_id)
    ).mappings()
    by_skill: dict[str, list[RowMapping]] = {}
    for row in rows:
        by_skill.setdefault(row["skill_id"], []).append(row)
    return {key: _items(key, of_skill) for key, of_skill in by_skill.items()}


def _items(key: str, rows: Sequence[RowMapping]) -> SkillItems:
    flags = [sum(int(ItemFlag[name.upper()]) for name in row["flags"]) for row in rows]
    numbers = {name: np.array([row[name] for row in rows], np.float64) for name in NUMBERS}
    fits = ItemFits(
        **numbers,
        n_attempts=np.array([row["n_attempts"] for row in rows], np.int64),
        flags=np.array(flags, np.uint8),
        status=np.array([row["status"] for row in rows]),
    )
    return SkillItems(key, tuple(row["item_id"] for row in rows), fits)


def item_rows(
    connection: Connection, keys: Sequence[str], run_id: str
) -> dict[str, tuple[float | None, ...] | None]:
    """(irt_a, irt_b, log_likelihood) of each stored item of these skills; None where another run has written it."""
    stored = item_irt_params.c
    rows = connection.execute(
        select(stored.item_id, stored.run_id, stored.irt_a, stored.irt_b, stored.log_likelihood).where(
            stored.skill_id == any_(bindparam("keys", list(keys), ARRAY(Text)))
        )
    )
    return {row[0]: tuple(row[2:]) if row[1] == run_id else None for row in rows}


def platform_rows(
    connection: Connection, source: Source, keys: Sequence[str]
) -> dict[str, tuple[float | None, ...]]:
    """(irt_a, irt_b) of the platform's own columns, by item of these skills."""
    items = source.items
    rows = connection.execute(
        select(cast(items.c.id, Text), cast(items.c.irt_a, Double), cast(items.c.irt_b, Double)).where(
            items.c.skill_id == any_(bindparam("skills", type_=ARRAY(source.skills.c.id.type)))
        ),
        {"skills": source.skill_ids(keys)},
    )
    return {row[0]: tuple(row[1:]) for row in rows}


def record_items(connection: Connection, outcome: ItemsOutcome, run_id: str) -> None:
    """Enter the outcome, over an earlier one of the same night unless that has a newer as_of."""
    night = outcome.as_of.astimezone(dt.UTC).date()
    upsert(
        connection,
        night_items,
        {**asdict(outcome), "night": night, "run_id": run_id},
        keys=["night", "skill_id"],
        newest="as_of",
        stamp="recorded_at",
    )


def items_of_runs(connection: Connection, run_ids: Sequence[str]) -> list[ItemsOutcome]:
    """The outcomes that these runs recorded, in the order of the skills' ids."""
    return _outcomes(connection, night_items.c.run_id.in_(run_ids))


def items_of_night(connection: Connection, night: dt.date) -> list[ItemsOutcome]:
    """The outcomes of the night, in the order of the skills' ids."""
    return _outcomes(connection, night_items.c.night == night)


def _outcomes(connection: Connection, which: Any) -> list[ItemsOutcome]:
    rows = connection.execute(
        select(*(night_items.c[field.name] for field in fields(ItemsOutcome)))
        .where(which)
        .order_by(night_items.c.skill_id)
    )
    return [ItemsOutcome(**row) for row in rows.mappings()]
