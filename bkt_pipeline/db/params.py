"""Calibrated parameters: the statements that publish them to the backend's table, and those that read it back."""

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
    and_,
    bindparam,
    case,
    cast,
    column,
    func,
    literal_column,
    or_,
    select,
)

from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.db.clock import LATEST_MOMENT
from bkt_pipeline.db.fits import store_fits
from bkt_pipeline.db.platform import Platform, Source
from bkt_pipeline.db.schema import PARAMETERS, moment, night_skills, published_params, skill_fits
from bkt_pipeline.db.upsert import lock_skills, never, upsert
from bkt_pipeline.errors import InvalidParams, RowNotTaken
from bkt_pipeline.model.bkt.fit import SkillFit
from bkt_pipeline.model.params import BktParams

VALUES = (*PARAMETERS, "log_likelihood")
# Dates that Python can hold; a platform may seed its rows with infinity.
_EARLIEST: Any = literal_column("'0002-01-01'::timestamptz")
_LATEST: Any = literal_column("'9998-01-01'::timestamptz")


def publish(
    connection: Connection, platform: Platform, fits: Sequence[SkillFit], run_id: str, code_version: str
) -> set[str]:
    """Upsert the published parameters to `skill_bkt_params` and keep the fits by night; returns which skills were written.

    A skill whose published parameters are newer is left as it is. The safe default of a grid without a valid point
    never replaces a row that exists.

    Raises
    ------
    RowNotTaken
        The table took fewer rows than it was given.
    """
    by_key = {fit.skill_id: fit for fit in fits}
    lock_skills(connection, list(by_key))
    won = _claim(connection, platform, by_key, run_id)
    for replaces in (True, False):
        chosen = [key for key in won if (by_key[key].published.log_likelihood is not None) == replaces]
        rows = [
            {"skill_id": skill_id, **{name: getattr(by_key[key].published, name) for name in VALUES}}
            for key, skill_id in zip(chosen, platform.skill_ids(chosen), strict=True)
        ]
        guard = None if replaces else never
        written = upsert(
            connection, platform.target, rows, keys=["skill_id"], guard=guard, stamp="calibrated_at"
        )
        if replaces and len(written) < len(rows):
            raise RowNotTaken(
                f"{platform.target.name} took {len(written)} of {len(rows)} rows without an error; look for a trigger or "
                "rule on it that drops them"
            )
    store_fits(connection, [by_key[key] for key in won], run_id, code_version)
    return set(won)


def _claim(
    connection: Connection, platform: Platform, fits: Mapping[str, SkillFit], run_id: str
) -> list[str]:
    """Note which calibration each skill's row will come from; the skills whose row may be written."""
    rows = [{"skill_id": key, "as_of": fits[key].as_of, "run_id": run_id} for key in sorted(fits)]
    won = upsert(connection, published_params, rows, keys=["skill_id"], guard=_unless_newer)
    lost = sorted(set(fits) - won)
    if lost:
        # A row that somebody deleted is not newer, whatever we noted about it.
        there = current_since(connection, platform, lost)
        gone = [row for row in rows if row["skill_id"] in lost and row["skill_id"] not in there]
        won |= upsert(connection, published_params, gone, keys=["skill_id"])
    return sorted(won)


def _unless_newer(new: Any, stored: Any) -> Any:
    return or_(new.as_of >= stored.as_of, stored.as_of > LATEST_MOMENT)


def given_skills(platform: Source, keys: Sequence[str]) -> tuple[TableValuedAlias, dict[str, Any]]:
    """The skills as a table of their ids in the platform's own type, numbered from 1, and the parameter it needs.

    Rows are matched by the database's own equality and come back by number, so a collation that equates two
    spellings cannot lose a skill.
    """
    kind = platform.skills.c.id.type
    given = func.unnest(bindparam("given", type_=ARRAY(kind))).table_valued(
        column("id", kind), with_ordinality="place"
    )
    return given.render_derived(name="given"), {"given": platform.skill_ids(keys)}


def current_since(
    connection: Connection, platform: Platform, keys: Sequence[str]
) -> dict[str, dt.datetime | None]:
    """For each of the skills that has a row in `skill_bkt_params`, when it was calibrated; None where it never was."""
    rows = _target_rows(connection, platform, keys, _calibrated_at(platform).label("since"))
    return {key: row.since for key, row in rows.items()}


def _calibrated_at(platform: Platform) -> Any:
    """The column as a time with a zone, NULL where it is missing or infinite."""
    at = cast(platform.target.c.calibrated_at, moment)
    return case((and_(at > _EARLIEST, at < _LATEST), at))


def _target_rows(
    connection: Connection, platform: Platform, keys: Sequence[str], *columns: Any
) -> dict[str, "Row[Any]"]:
    given, parameters = given_skills(platform, keys)
    target = platform.target
    rows = connection.execute(
        select(given.c.place, *columns).select_from(given.join(target, target.c.skill_id == given.c.id)),
        parameters,
    )
    return {keys[row.place - 1]: row for row in rows}


def current_values(
    connection: Connection, platform: Platform, keys: Sequence[str]
) -> dict[str, tuple[float | None, ...]]:
    """What the backend reads of the skills now, in the order of `VALUES`; a skill without a row is not in the result."""
    found = _target_rows(connection, platform, keys, *(platform.target.c[name] for name in VALUES))
    return {
        key: tuple(None if row[place] is None else float(row[place]) for place in range(1, len(VALUES) + 1))
        for key, row in found.items()
    }


def rows_of_run(
    connection: Connection, platform: Platform, keys: Sequence[str], run_id: str
) -> dict[str, tuple[float | None, ...] | None]:
    """What the backend reads of the skills that the run published last; None where it finds no row.

    A skill that a newer run has published since is not in the result.
    """
    own = select(published_params.c.skill_id).where(
        published_params.c.skill_id.in_(keys), published_params.c.run_id == run_id
    )
    ours = sorted(connection.execute(own).scalars())
    return dict.fromkeys(ours) | current_values(connection, platform, ours)


@dataclass(frozen=True)
class CurrentParams:
    """What `skill_bkt_params` holds of some skills: parameters with their date, or why they are not valid."""

    params: dict[str, tuple[BktParams, dt.datetime | None]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)


def current_params(connection: Connection, platform: Platform, keys: Sequence[str]) -> CurrentParams:
    """The parameters that `skill_bkt_params` holds now; a skill without a row is in neither part."""
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
    """The night's result, `{"calibrated_skills": {skill: parameters}, "count": N}`; of certain runs only, where given."""
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
