"""Item parameters: stores them, writes them to the platform's items, and reads them again."""

import datetime as dt
import math
from collections.abc import Mapping, Sequence
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

from bkt_pipeline.calibration.check import equal_as_stored
from bkt_pipeline.calibration.item_checks import NEAR_ZERO
from bkt_pipeline.db.clock import LATEST_MOMENT
from bkt_pipeline.db.params import given_skills
from bkt_pipeline.db.platform import Source
from bkt_pipeline.db.relations import id_value
from bkt_pipeline.db.rollback import with_items_rolled_back
from bkt_pipeline.db.schema import item_irt_params, night_items
from bkt_pipeline.db.upsert import as_json, given_table, lock_skills
from bkt_pipeline.errors import RowNotTaken
from bkt_pipeline.model.irt.fits import ItemFits, ItemFlag
from bkt_pipeline.model.irt.items import ItemModel, SkillItems, published
from bkt_pipeline.model.irt.offset import OffsetFits

PLATFORM_COLUMNS = ("irt_a", "irt_b", "irt_calibrated_at")
FITTED = ("irt_a", "irt_b", "se_a", "se_b", "log_likelihood")


def platform_columns(connection: Connection, source: Source) -> dict[str, bool]:
    """Whether we may write each of the platform's item columns; empty unless the platform has all three."""
    if not all(name in source.items.c for name in PLATFORM_COLUMNS):
        return {}
    rows = connection.execute(
        text(
            "SELECT attname, has_column_privilege(attrelid, attnum, 'UPDATE')"
            " AND pg_column_is_updatable(attrelid, attnum, true) FROM pg_attribute"
            " WHERE attrelid = cast(:oid AS oid) AND attname = ANY(:names)"
        ),
        {"names": list(PLATFORM_COLUMNS), "oid": source.items.info["oid"]},
    )
    return {name: bool(may) for name, may in rows}


def store_items(
    connection: Connection,
    source: Source,
    skills: Sequence[SkillItems],
    as_of: dt.datetime,
    run_id: str,
    *,
    platform_model: ItemModel | None,
) -> set[tuple[str, str]]:
    """Upsert the items of some skills, and the platform's own columns from `platform_model` where that is one; returns
    the skill and item of each row that was written.

    The key is the pair of skill and item. Rows with a newer as_of are kept, unless their skill was rolled back. An item
    that was not calibrated gets a row with the reason, but that never replaces parameters from an earlier night.

    Raises
    ------
    RowNotTaken
        The platform's columns did not keep what was written.
    """
    rows = [row for items in skills for row in fitted_rows(items)]
    if not rows:
        return set()
    lock_skills(connection, keys := [items.skill_id for items in skills])
    # Sorted, so that two transactions that write the same items wait for each other instead of deadlocking.
    rows.sort(key=lambda row: (row["skill_id"], row["item_id"]))
    given = {"given_as_of": as_of, "given_run": run_id, "freed": with_items_rolled_back(connection, keys)}
    stored = connection.execute(_store_statement(tuple(rows[0])), given | {"rows": as_json(rows)})
    written = {(row.skill_id, row.item_id) for row in stored}
    if platform_model is not None:
        shown = [row for items in skills for row in _platform_rows(items, platform_model, written)]
        update_platform(connection, source, sorted(shown, key=lambda row: (row["skill_id"], row["item_id"])))
    return written


# Building such a statement takes longer than running it.
@lru_cache(maxsize=8)
def _store_statement(names: tuple[str, ...]) -> ReturningInsert[Any]:
    """Upserts the rows of the parameter `rows`; also needs the parameters given_as_of, given_run and freed."""
    own = item_irt_params.c
    given = given_table(item_irt_params, names)
    columns: dict[str, Any] = {name: given.c[name] for name in names} | {
        "as_of": bindparam("given_as_of", type_=own.as_of.type),
        "run_id": bindparam("given_run", type_=Text()),
        "calibrated_at": case((given.c.irt_a.is_not(None), func.now())),
    }
    statement = insert(item_irt_params).from_select(list(columns), select(*columns.values()))
    new = statement.excluded
    newest = or_(
        new.as_of >= own.as_of,
        own.as_of > LATEST_MOMENT,
        own.skill_id == any_(bindparam("freed", type_=ARRAY(Text))),
    )
    return statement.on_conflict_do_update(
        index_elements=["skill_id", "item_id"],
        set_={name: new[name] for name in columns if name not in ("skill_id", "item_id")},
        where=newest & or_(new.irt_a.is_not(None), own.irt_a.is_(None)),
    ).returning(own.skill_id, own.item_id)


def update_platform(connection: Connection, source: Source, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set the platform's item columns in one statement, and read in the same transaction what the backend would read.

    Raises
    ------
    RowNotTaken
        The columns did not keep the values.
    """
    if not rows:
        return
    shown = [
        {
            "id": id_value(source.items.c.id, row["item_id"]),
            "skill": skill,
            "irt_a": row["irt_a"],
            "irt_b": row["irt_b"],
        }
        for row, skill in zip(rows, source.skill_ids(row["skill_id"] for row in rows), strict=True)
    ]
    connection.execute(_update_statement(source.items, source.skills.c.id.type), _arrays(shown))
    # Deferred triggers could change the rows at the end of the transaction, when nobody looks any more.
    connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    kept = platform_rows(connection, sorted({row["skill_id"] for row in rows}), source)
    for row in rows:
        # An item that has been deleted or moved to another skill since it was read has no row any more.
        theirs = kept[row["skill_id"]].get(row["item_id"])
        for place, name in enumerate(PLATFORM_COLUMNS[:2]):
            if theirs and not equal_as_stored(row[name], theirs[place], near_zero=NEAR_ZERO):
                raise RowNotTaken(
                    f"{source.items.name} holds {name} {theirs[place]} after {row[name]} was written; look for a trigger, rule "
                    "or column type of the table that discards or changes values, or set BKT_UPDATE_ITEMS=no"
                )


@lru_cache(maxsize=8)
def _update_statement(items: Table, skill_type: TypeEngine[Any]) -> Update:
    given = _given({"id": items.c.id.type, "skill": skill_type, "irt_a": Double(), "irt_b": Double()})
    return (
        items.update()
        .where(items.c.id == given.c.id, items.c.skill_id == given.c.skill)
        .values(irt_a=given.c.irt_a, irt_b=given.c.irt_b, irt_calibrated_at=func.now())
    )


def _given(kinds: Mapping[str, TypeEngine[Any]]) -> TableValuedAlias:
    """The rows of `_arrays` as a table in a statement."""
    arrays = [bindparam(f"given_{name}", type_=ARRAY(kind)) for name, kind in kinds.items()]
    columns = [column(name, kind) for name, kind in kinds.items()]
    return func.unnest(*arrays).table_valued(*columns).render_derived(name="given")


def _arrays(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The rows as parameters, one array for each column: far faster to parse than a parameter for each value."""
    return {f"given_{name}": [row[name] for row in rows] for name in rows[0]}


def fitted_rows(items: SkillItems) -> list[dict[str, Any]]:
    """One row for each item; NaN becomes NULL."""
    fits, offsets = items.fits, items.offsets
    numbers = {name: getattr(fits, name) for name in FITTED} | {"offset_d": offsets.d, "se_d": offsets.se}
    columns: dict[str, Sequence[Any]] = {
        "skill_id": [items.skill_id] * len(items),
        "item_id": items.item_ids,
        **{
            name: [None if math.isnan(value) else value for value in values.tolist()]
            for name, values in numbers.items()
        },
        "n_attempts": fits.n_attempts.tolist(),
        "status": fits.status.tolist(),
        "flags": [flag_names(value) for value in fits.flags.tolist()],
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _platform_rows(
    items: SkillItems, model: ItemModel, written: set[tuple[str, str]]
) -> list[dict[str, Any]]:
    """What the platform's columns get: a row for each item whose own row was written, and that has numbers."""
    a, b = (values.tolist() for values in published(items, model))
    return [
        {"skill_id": items.skill_id, "item_id": item_id, "irt_a": a[place], "irt_b": b[place]}
        for place, item_id in enumerate(items.item_ids)
        if (items.skill_id, item_id) in written and not math.isnan(a[place])
    ]


@lru_cache(maxsize=256)
def flag_names(flags: int) -> tuple[str, ...]:
    """The names of the flags, as stored."""
    return tuple(str(flag.name).lower() for flag in ItemFlag if flags & flag)


def load_items(connection: Connection, keys: Sequence[str]) -> dict[str, SkillItems]:
    """The stored items of these skills; a skill without items is left out."""
    rows = connection.execute(
        select(item_irt_params)
        .where(item_irt_params.c.skill_id == any_(bindparam("keys", list(keys), ARRAY(Text))))
        .order_by(item_irt_params.c.skill_id, item_irt_params.c.item_id)
    ).mappings()
    by_skill: dict[str, list[RowMapping]] = {}
    for row in rows:
        by_skill.setdefault(row["skill_id"], []).append(row)
    return {key: _items(key, of_skill) for key, of_skill in by_skill.items()}


def item_points(connection: Connection, night: dt.date) -> dict[str, list[tuple[float, float]]]:
    """Difficulty and discrimination of each item of the night's skills that has them, by status."""
    stored = item_irt_params.c
    rows = connection.execute(
        select(stored.status, stored.irt_b, stored.irt_a)
        .join(night_items, night_items.c.skill_id == stored.skill_id)
        .where(night_items.c.night == night, stored.irt_a.is_not(None), stored.irt_b.is_not(None))
    )
    found: dict[str, list[tuple[float, float]]] = {}
    for status, b, a in rows:
        found.setdefault(status, []).append((b, a))
    return found


def _items(key: str, rows: Sequence[RowMapping]) -> SkillItems:
    flags = [sum(int(ItemFlag[name.upper()]) for name in row["flags"]) for row in rows]
    numbers = {
        name: np.array([row[name] for row in rows], np.float64) for name in (*FITTED, "offset_d", "se_d")
    }
    offsets = OffsetFits(numbers.pop("offset_d"), numbers.pop("se_d"))
    fits = ItemFits(
        **numbers,
        n_attempts=np.array([row["n_attempts"] for row in rows], np.int64),
        flags=np.array(flags, np.uint8),
        status=np.array([row["status"] for row in rows]),
    )
    return SkillItems(key, tuple(row["item_id"] for row in rows), fits, offsets)


def item_rows(
    connection: Connection, keys: Sequence[str], run_id: str
) -> dict[str, dict[str, tuple[float | None, ...] | None]]:
    """By skill, (irt_a, irt_b, log_likelihood, offset_d) of each stored item; None if another run wrote it."""
    stored = item_irt_params.c
    rows = connection.execute(
        select(
            stored.skill_id,
            stored.item_id,
            stored.run_id,
            stored.irt_a,
            stored.irt_b,
            stored.log_likelihood,
            stored.offset_d,
        ).where(stored.skill_id == any_(bindparam("keys", list(keys), ARRAY(Text))))
    )
    found: dict[str, dict[str, tuple[float | None, ...] | None]] = {key: {} for key in keys}
    for skill, item, writer, *numbers in rows:
        found[skill][item] = tuple(numbers) if writer == run_id else None
    return found


def platform_rows(
    connection: Connection, keys: Sequence[str], source: Source
) -> dict[str, dict[str, tuple[float | None, ...]]]:
    """By skill, (irt_a, irt_b) of each item in the platform's own columns."""
    items = source.items
    given, parameters = given_skills(source, keys)
    rows = connection.execute(
        select(
            given.c.place, cast(items.c.id, Text), cast(items.c.irt_a, Double), cast(items.c.irt_b, Double)
        ).select_from(given.join(items, items.c.skill_id == given.c.id)),
        parameters,
    )
    found: dict[str, dict[str, tuple[float | None, ...]]] = {key: {} for key in keys}
    for place, item, *numbers in rows:
        found[keys[place - 1]][item] = tuple(numbers)
    return found
