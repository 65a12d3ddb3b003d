"""What a calibration is held against: earlier nights, the row that the backend reads, attempts that no window
holds."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ARRAY, Connection, Text, bindparam, cast, column, func, select, true

from bkt_pipeline.db.schema import PARAMETERS, Platform, Source, published_params, skill_fits
from bkt_pipeline.model.types import BktParams


@dataclass(frozen=True)
class EarlierFits:
    """Earlier nights of a skill, the latest first."""

    per_attempt: tuple[float, ...]
    params: BktParams


def earlier_fits(
    connection: Connection, keys: Sequence[str], night: dt.date, nights: int
) -> dict[str, EarlierFits]:
    """The last so many nights before `night` that calibrated each of the skills; a new skill has none."""
    fits = skill_fits
    given = (
        func.unnest(bindparam("keys", type_=ARRAY(Text)))
        .table_valued(column("skill_id", Text))
        .render_derived("given")
    )
    recent = (
        select(fits)
        .where(fits.c.skill_id == given.c.skill_id, fits.c.night < night, fits.c.log_likelihood.is_not(None))
        .order_by(fits.c.night.desc())
        .limit(nights)
        .lateral("recent")
    )
    rows = connection.execute(
        select(recent).select_from(given.join(recent, true())).order_by(recent.c.night.desc()),
        {"keys": list(keys)},
    )
    found: dict[str, EarlierFits] = {}
    for row in rows:
        value = row.log_likelihood / row.attempts
        before = found.get(row.skill_id)
        found[row.skill_id] = (
            EarlierFits((*before.per_attempt, value), before.params)
            if before
            else EarlierFits(
                (value,), BktParams(row.p_l0, row.p_transit, row.p_slip, row.p_guess, row.log_likelihood)
            )
        )
    return found


def rows_of_run(
    connection: Connection, platform: Platform, keys: Sequence[str], run_id: str
) -> dict[str, tuple[float | None, ...] | None]:
    """What the backend reads of the skills that the run published last; None where it finds no row.

    A skill that a newer run has published since is not in the result.
    """
    target = platform.target
    own = select(published_params.c.skill_id).where(
        published_params.c.skill_id.in_(keys), published_params.c.run_id == run_id
    )
    rows: dict[str, tuple[float | None, ...] | None] = dict.fromkeys(connection.execute(own).scalars())
    names = (*PARAMETERS, "log_likelihood")
    for row in connection.execute(
        select(cast(target.c.skill_id, Text).label("key"), *(target.c[name] for name in names)).where(
            target.c.skill_id.in_(platform.skill_ids(rows))
        )
    ).mappings():
        rows[row["key"]] = tuple(None if row[name] is None else float(row[name]) for name in names)
    return rows


@dataclass(frozen=True)
class LeftOut:
    """Numbers of attempts, by skill, that a window can't hold; a skill without any is not in it."""

    in_future: dict[str, int]  # they bear a time that is still to come
    without_student: dict[str, int]  # in the window's days, but of no sequence


def left_out(
    connection: Connection, source: Source, keys: Sequence[str], as_of: dt.datetime, window_days: int
) -> LeftOut:
    """What the windows of the skills leave out."""
    return LeftOut(
        in_future=_in_future(connection, source, keys),
        without_student=_without_student(connection, source, keys, as_of, window_days),
    )


def _in_future(connection: Connection, source: Source, keys: Sequence[str]) -> dict[str, int]:
    items, attempts = source.items, source.attempts
    now = func.now() if source.zoned else func.timezone("UTC", func.now())
    rows = connection.execute(
        select(cast(items.c.skill_id, Text).label("skill_id"), func.count().label("attempts"))
        .select_from(attempts.join(items, items.c.id == attempts.c.item_id))
        .where(items.c.skill_id.in_(source.skill_ids(keys)), attempts.c.created_at > now)
        .group_by(items.c.skill_id)
    )
    return {row.skill_id: row.attempts for row in rows}


def _without_student(
    connection: Connection, source: Source, keys: Sequence[str], as_of: dt.datetime, window_days: int
) -> dict[str, int]:
    items, attempts = source.items, source.attempts
    if not attempts.c.student_id.nullable:
        # As on most platforms, and it costs them nothing.
        return {}
    bound = as_of.astimezone(dt.UTC)
    if not source.zoned:
        bound = bound.replace(tzinfo=None)
    rows = connection.execute(
        select(cast(items.c.skill_id, Text).label("skill_id"), func.count().label("attempts"))
        .select_from(attempts.join(items, items.c.id == attempts.c.item_id))
        .where(
            items.c.skill_id.in_(source.skill_ids(keys)),
            attempts.c.created_at > bound - dt.timedelta(days=window_days),
            attempts.c.created_at <= bound,
            attempts.c.student_id.is_(None),
        )
        .group_by(items.c.skill_id)
    )
    return {row.skill_id: row.attempts for row in rows}
