"""Rehearsed nights: what a night would have published, kept apart from the nights that did.

Each table has the columns of the one that it stands in for, so nothing that reads the nights ever sees a rehearsal.
A rehearsal replaces an earlier one of the same as_of.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, RowMapping, Table, delete, func, select

from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.db.fits import fit_row
from bkt_pipeline.db.items import fitted_rows
from bkt_pipeline.db.schema import PARAMETERS, item_irt_params, night_items, night_skills, own, skill_fits
from bkt_pipeline.db.upsert import upsert
from bkt_pipeline.model.bkt.fit import SkillFit
from bkt_pipeline.model.irt.items import SkillItems
from bkt_pipeline.model.params import BktParams

__all__ = ["own", "rehearsed_fits", "rehearsed_item_params", "rehearsed_items", "rehearsed_skills"]

KEYS = ("as_of", "skill_id")
ITEM_KEYS = (*KEYS, "item_id")
KEPT_DAYS = 30


def _like(table: Table, name: str, comment: str, keys: Sequence[str] = KEYS) -> Table:
    columns: list[Column[Any]] = [
        Column(
            column.name,
            column.type,
            primary_key=column.name in keys,
            nullable=column.nullable,
            comment=column.comment,
        )
        for column in table.c
    ]
    return Table(name, own, *columns, comment=comment)


rehearsed_fits = _like(skill_fits, "rehearsed_fits", "The parameters of rehearsals, which were not published")
rehearsed_skills = _like(night_skills, "rehearsed_skills", "The outcome of each skill in rehearsals")
rehearsed_items = _like(night_items, "rehearsed_items", "The outcome of each skill's items in rehearsals")
rehearsed_item_params = _like(
    item_irt_params,
    "rehearsed_item_params",
    "The item parameters of rehearsals, which were not published",
    ITEM_KEYS,
)


def store_rehearsed(
    connection: Connection,
    keys: Sequence[str],
    fits: Sequence[SkillFit],
    as_of: dt.datetime,
    run_id: str,
    code_version: str,
) -> None:
    """Store a rehearsal's fits of some skills, also of skills without one, and delete those older than `KEPT_DAYS`."""
    old = func.now() - dt.timedelta(days=KEPT_DAYS)
    connection.execute(delete(rehearsed_fits).where(rehearsed_fits.c.stored_at < old))
    connection.execute(delete(rehearsed_items).where(rehearsed_items.c.recorded_at < old))
    gone = delete(rehearsed_skills).where(rehearsed_skills.c.recorded_at < old)
    nights = set(connection.execute(gone.returning(rehearsed_skills.c.as_of)).scalars())
    if nights:
        connection.execute(delete(rehearsed_item_params).where(rehearsed_item_params.c.as_of.in_(nights)))
    _delete_earlier(connection, rehearsed_fits, keys, as_of)
    rows = [fit_row(fit) | {"run_id": run_id, "code_version": code_version} for fit in fits]
    upsert(connection, rehearsed_fits, rows, keys=KEYS, stamp="stored_at")


def _delete_earlier(connection: Connection, table: Table, keys: Sequence[str], as_of: dt.datetime) -> None:
    """Delete what an earlier rehearsal of the same as_of stored for these skills."""
    connection.execute(delete(table).where(table.c.as_of == as_of, table.c.skill_id.in_(keys)))


def store_rehearsed_items(
    connection: Connection,
    keys: Sequence[str],
    skills: Sequence[SkillItems],
    as_of: dt.datetime,
    run_id: str,
) -> None:
    """Store a rehearsal's item parameters of some skills, also of skills without any."""
    _delete_earlier(connection, rehearsed_item_params, keys, as_of)
    rows = [row | {"as_of": as_of, "run_id": run_id} for items in skills for row in fitted_rows(items)]
    upsert(connection, rehearsed_item_params, rows, keys=ITEM_KEYS, stamp="calibrated_at")


def rehearsed_params(
    connection: Connection, keys: Sequence[str], as_of: dt.datetime
) -> dict[str, tuple[BktParams, dt.datetime]]:
    """What a rehearsal as of `as_of` would have published for these skills, and that it is as of then."""
    fits = rehearsed_fits.c
    rows = connection.execute(
        select(fits.skill_id, *(fits[name] for name in PARAMETERS)).where(
            fits.as_of == as_of, fits.skill_id.in_(keys)
        )
    )
    return {key: (BktParams(*values), as_of) for key, *values in rows}


def rehearsed_result(connection: Connection, run_ids: Sequence[str]) -> dict[str, Any]:
    """What the runs would have published, in the form of `night_result`."""
    names = (*PARAMETERS, "log_likelihood")
    rows = connection.execute(
        select(rehearsed_fits).where(rehearsed_fits.c.run_id.in_(run_ids)).order_by(rehearsed_fits.c.skill_id)
    )
    skills = {row["skill_id"]: {name: row[name] for name in names} for row in rows.mappings()}
    return {"calibrated_skills": skills, "count": len(skills)}


def fits_of_rehearsal(connection: Connection, run_ids: Sequence[str] | None = None) -> dict[str, RowMapping]:
    """The stored rows of these runs, by skill; without run ids, those of the latest rehearsal."""
    fits = rehearsed_fits.c
    if run_ids is None:
        last = select(fits.as_of).order_by(fits.stored_at.desc()).limit(1).scalar_subquery()
        chosen = fits.as_of == last
    else:
        chosen = fits.run_id.in_(run_ids)
    rows = connection.execute(select(rehearsed_fits).where(chosen).order_by(fits.skill_id))
    return {row["skill_id"]: row for row in rows.mappings()}


def fits_of_night(connection: Connection, night: dt.date) -> dict[str, RowMapping]:
    """The stored rows of the skills that the night calibrated, by skill."""
    calibrated = (
        (night_skills.c.night == skill_fits.c.night)
        & (night_skills.c.skill_id == skill_fits.c.skill_id)
        & (night_skills.c.outcome == Outcome.CALIBRATED.value)
    )
    rows = connection.execute(
        select(skill_fits)
        .join(night_skills, calibrated)
        .where(skill_fits.c.night == night)
        .order_by(skill_fits.c.skill_id)
    )
    return {row["skill_id"]: row for row in rows.mappings()}
