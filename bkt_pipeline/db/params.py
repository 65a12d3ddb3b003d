"""Publishes calibrated parameters to the backend's table, and reads them again."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ARRAY,
    Connection,
    Double,
    Row,
    TableValuedAlias,
    Text,
    and_,
    bindparam,
    case,
    cast,
    column,
    func,
    literal_column,
    or_,
    select,
    text,
)

from bkt_pipeline.calibration.check import equal_as_stored
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.db.clock import LATEST_MOMENT
from bkt_pipeline.db.fits import store_fits
from bkt_pipeline.db.platform import Platform, Source
from bkt_pipeline.db.relations import is_text
from bkt_pipeline.db.schema import PARAMETERS, moment, night_skills, published_params, skill_fits
from bkt_pipeline.db.upsert import lock_skills, never, upsert
from bkt_pipeline.errors import InvalidParams, RowNotTaken
from bkt_pipeline.model.bkt.fit import SkillFit
from bkt_pipeline.model.params import BktParams
from bkt_pipeline.settings import MIN_ATTEMPTS

VALUES = (*PARAMETERS, "log_likelihood")
Values = Sequence[float | None]  # in the order of VALUES
FULL_ATTEMPTS = MIN_ATTEMPTS  # a fit on fewer is thin, whatever min_attempts a night uses
# The range of dates that Python can represent; a platform may seed its rows with infinity.
_EARLIEST: Any = literal_column("'0002-01-01'::timestamptz")
_LATEST: Any = literal_column("'9998-01-01'::timestamptz")


def publish(
    connection: Connection, platform: Platform, fits: Sequence[SkillFit], run_id: str, code_version: str
) -> set[str]:
    """Upsert the published parameters to `skill_bkt_params` and store the fits by night; returns the skills written.

    A skill whose published parameters are newer is not written. The safe default of a grid without a valid point
    never replaces an existing row.

    Raises
    ------
    RowNotTaken
        The table did not keep the rows as they were given.
    """
    by_key = {fit.skill_id: fit for fit in fits}
    lock_skills(connection, list(by_key))
    won = _claim(connection, platform, by_key, run_id)
    values = {key: tuple(getattr(by_key[key].published, name) for name in VALUES) for key in won}
    likely = {key: row for key, row in values.items() if row[-1] is not None}
    write_rows(connection, platform, likely)
    upsert(
        connection,
        platform.target,
        _rows(platform, {key: row for key, row in values.items() if key not in likely}),
        keys=["skill_id"],
        guard=never,
        stamp="calibrated_at",
    )
    store_fits(connection, [by_key[key] for key in won], run_id, code_version)
    return set(won)


def write_rows(connection: Connection, platform: Platform, values: Mapping[str, Values]) -> None:
    """Write the skills' rows of `skill_bkt_params`, and read in the same transaction what the backend would read.

    Raises
    ------
    RowNotTaken
        The table did not keep the rows as they were given.
    """
    if not values:
        return
    upsert(connection, platform.target, _rows(platform, values), keys=["skill_id"], stamp="calibrated_at")
    # Deferred triggers could change the rows at the end of the transaction, when nobody looks any more.
    connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    kept = current_values(connection, platform, list(values))
    name = platform.target.name
    if gone := len(values) - len(kept):
        raise RowNotTaken(
            f"{name} kept only {len(kept)} of {gone + len(kept)} rows, without an error; look for a trigger or rule on the "
            "table that discards or changes rows"
        )
    for key, row in kept.items():
        for column_name, ours, theirs in zip(VALUES, values[key], row, strict=True):
            if not equal_as_stored(ours, theirs):
                raise RowNotTaken(
                    f"{name} holds {column_name} {theirs} after {ours} was written; look for a trigger, rule or column type "
                    "of the table that changes values"
                )


def _rows(platform: Platform, values: Mapping[str, Values]) -> list[dict[str, Any]]:
    ids = platform.target_ids(values)
    return [
        {"skill_id": skill_id, **dict(zip(VALUES, row, strict=True))}
        for skill_id, row in zip(ids, values.values(), strict=True)
    ]


def _claim(
    connection: Connection, platform: Platform, fits: Mapping[str, SkillFit], run_id: str
) -> list[str]:
    """Record which calibration each skill's row will come from; returns the skills whose row may be written."""
    rows = [
        {"skill_id": key, "as_of": fits[key].as_of, "run_id": run_id, "attempts": fits[key].n_attempts}
        for key in sorted(fits)
    ]
    won = upsert(connection, published_params, rows, keys=["skill_id"], guard=_unless_newer)
    lost = sorted(set(fits) - won)
    if lost:
        # A row that was deleted from the target table is not newer, whatever our own table says.
        there = current_since(connection, platform, lost)
        gone = [row for row in rows if row["skill_id"] in lost and row["skill_id"] not in there]
        won |= upsert(connection, published_params, gone, keys=["skill_id"])
    return sorted(won)


def _unless_newer(new: Any, stored: Any) -> Any:
    return or_(new.as_of >= stored.as_of, stored.as_of > LATEST_MOMENT)


def kept_from_thin_fits(connection: Connection, platform: Platform, fits: Sequence[SkillFit]) -> set[str]:
    """The skills whose row stays because the new fit is thin and the row is not, or nobody knows what it rests on.

    A thin fit, of fewer than `FULL_ATTEMPTS` attempts, is published only where no row exists or where the row was
    itself published from a thin fit.
    """
    thin = sorted(fit.skill_id for fit in fits if fit.n_attempts < FULL_ATTEMPTS)
    if not thin:
        return set()
    published = published_params.c
    rows = connection.execute(
        select(published.skill_id).where(published.skill_id.in_(thin), published.attempts < FULL_ATTEMPTS)
    )
    return set(current_since(connection, platform, thin)) - set(rows.scalars())


def given_skills(platform: Source, keys: Sequence[str]) -> tuple[TableValuedAlias, dict[str, Any]]:
    """The skills as a table of their ids in the platform's type, numbered from 1, and the parameter that it needs.

    The database matches the ids by its own equality, and rows are identified by number, so no skill is lost to a
    collation that treats two spellings as equal.
    """
    kind = platform.skills.c.id.type
    given = func.unnest(bindparam("given", type_=ARRAY(kind))).table_valued(
        column("id", kind), with_ordinality="place"
    )
    return given.render_derived(name="given"), {"given": platform.skill_ids(keys)}


def current_since(
    connection: Connection, platform: Platform, keys: Sequence[str]
) -> dict[str, dt.datetime | None]:
    """When each skill with a row in `skill_bkt_params` was calibrated; None if it never was."""
    rows = _target_rows(connection, platform, keys, _calibrated_at(platform).label("since"))
    return {key: row.since for key, row in rows.items()}


def parameters_as_of(
    connection: Connection, platform: Platform, keys: Sequence[str]
) -> dict[str, dt.datetime | None]:
    """Until when the answers reach that each skill's row rests on; of a row that we did not write, when it was written.

    A rollback makes a row older again. A skill without a row is left out.
    """
    published = published_params.c
    rows = connection.execute(select(published.skill_id, published.as_of))
    known = {row.skill_id: row.as_of for row in rows}
    return {key: known.get(key, since) for key, since in current_since(connection, platform, keys).items()}


def _calibrated_at(platform: Platform) -> Any:
    """The column as a time with a zone; NULL if it is missing or infinite."""
    at = cast(platform.target.c.calibrated_at, moment)
    return case((and_(at > _EARLIEST, at < _LATEST), at))


def _target_rows(
    connection: Connection, platform: Platform, keys: Sequence[str], *columns: Any
) -> dict[str, "Row[Any]"]:
    given, parameters = given_skills(platform, keys)
    target = platform.target
    as_text = is_text(target.c.skill_id) and not is_text(platform.skills.c.id)
    skill: Any = cast(given.c.id, Text) if as_text else given.c.id
    rows = connection.execute(
        select(given.c.place, *columns).select_from(given.join(target, target.c.skill_id == skill)),
        parameters,
    )
    return {keys[row.place - 1]: row for row in rows}


def current_values(
    connection: Connection, platform: Platform, keys: Sequence[str]
) -> dict[str, tuple[float | None, ...]]:
    """The values that the backend reads now, in the order of `VALUES`; a skill without a row is left out."""
    found = _target_rows(connection, platform, keys, *(platform.target.c[name] for name in VALUES))
    return {
        key: tuple(None if row[place] is None else float(row[place]) for place in range(1, len(VALUES) + 1))
        for key, row in found.items()
    }


def rows_of_run(
    connection: Connection, platform: Platform, keys: Sequence[str], run_id: str
) -> dict[str, tuple[float | None, ...] | None]:
    """The values that the backend reads now for the skills that this run published; None if there is no row.

    A skill that another run has published since is left out.
    """
    own = select(published_params.c.skill_id).where(
        published_params.c.skill_id.in_(keys), published_params.c.run_id == run_id
    )
    ours = sorted(connection.execute(own).scalars())
    return dict.fromkeys(ours) | current_values(connection, platform, ours)


@dataclass(frozen=True)
class CurrentParams:
    """The rows of `skill_bkt_params` for some skills: parameters with their date, or why they are not valid."""

    params: dict[str, tuple[BktParams, dt.datetime | None]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)


def current_params(connection: Connection, platform: Platform, keys: Sequence[str]) -> CurrentParams:
    """The parameters in `skill_bkt_params` now; a skill without a row is in neither part."""
    target = platform.target
    names = [cast(target.c[name], Double).label(name) for name in PARAMETERS]
    found = CurrentParams()
    rows = _target_rows(connection, platform, keys, _calibrated_at(platform).label("since"), *names)
    for key, row in rows.items():
        try:
            params = BktParams(*(getattr(row, name) for name in PARAMETERS))
        except InvalidParams as error:
            found.unusable[key] = f"its row in {target.name} is not valid: {error}"
            continue
        found.params[key] = (params, row.since)
    return found


def night_result(
    connection: Connection, night: dt.date, run_ids: Sequence[str] | None = None
) -> dict[str, Any]:
    """The night's result, `{"calibrated_skills": {skill: parameters}, "count": N}`; with `run_ids`, only of those runs."""
    statement = (
        select(skill_fits.c.skill_id, *(skill_fits.c[name] for name in VALUES))
        .join(
            night_skills,
            (night_skills.c.night == skill_fits.c.night) & (night_skills.c.skill_id == skill_fits.c.skill_id),
        )
        .where(skill_fits.c.night == night, night_skills.c.outcome == Outcome.CALIBRATED.value)
        .order_by(skill_fits.c.skill_id)
    )
    if run_ids is not None:
        statement = statement.where(night_skills.c.run_id.in_(run_ids))
    rows = connection.execute(statement).mappings()
    skills = {row["skill_id"]: {name: row[name] for name in row if name != "skill_id"} for row in rows}
    return {"calibrated_skills": skills, "count": len(skills)}
