"""Calibrated parameters: the statements that publish them to the backend's table and keep them by night."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Connection,
    Double,
    Text,
    cast,
    select,
)
from sqlalchemy import Text as SqlText

from bkt_pipeline.db.fits import store_fit
from bkt_pipeline.db.platform import Platform
from bkt_pipeline.db.schema import PARAMETERS, night_skills, published_params, skill_fits
from bkt_pipeline.db.upsert import lock_skill, upsert
from bkt_pipeline.errors import InvalidParams
from bkt_pipeline.model.bkt.fit import SkillFit
from bkt_pipeline.model.params import BktParams


def publish(
    connection: Connection,
    platform: Platform,
    fit: SkillFit,
    run_id: str,
    code_version: str,
) -> bool:
    """Upsert the fit's published parameters to `skill_bkt_params` and keep it by night; says whether it did.

    False, and nothing is written, where a calibration with a newer as_of is already published.
    The safe default of a grid without a valid point never replaces a row that exists.
    """
    lock_skill(connection, fit.skill_id)
    if not upsert(
        connection,
        published_params,
        {"skill_id": fit.skill_id, "as_of": fit.as_of, "run_id": run_id},
        keys=["skill_id"],
        newest="as_of",
    ):
        return False
    published = fit.published
    (skill_id,) = platform.skill_ids([fit.skill_id])
    upsert(
        connection,
        platform.target,
        {
            "skill_id": skill_id,
            **{name: getattr(published, name) for name in (*PARAMETERS, "log_likelihood")},
        },
        keys=["skill_id"],
        stamp="calibrated_at",
        replace=published.log_likelihood is not None,
    )
    store_fit(connection, fit, run_id, code_version)
    return True


def standing_since(connection: Connection, platform: Platform, keys: Sequence[str]) -> dict[str, dt.datetime]:
    """For each of the skills that has a row in `skill_bkt_params`, when that row was calibrated."""
    target = platform.target
    rows = connection.execute(
        select(cast(target.c.skill_id, SqlText), target.c.calibrated_at).where(
            target.c.skill_id.in_(platform.skill_ids(keys))
        )
    )
    return {key: moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC) for key, moment in rows}


def night_result(
    connection: Connection, night: dt.date, run_ids: Sequence[str] | None = None
) -> dict[str, Any]:
    """The night's result as calibration.md has it; of certain runs only, where these are given."""
    statement = (
        select(skill_fits.c.skill_id, *(skill_fits.c[name] for name in (*PARAMETERS, "log_likelihood")))
        .join(
            night_skills,
            (night_skills.c.night == skill_fits.c.night) & (night_skills.c.skill_id == skill_fits.c.skill_id),
        )
        .where(skill_fits.c.night == night, night_skills.c.outcome == "calibrated")
        .order_by(skill_fits.c.skill_id)
    )
    if run_ids is not None:
        statement = statement.where(night_skills.c.run_id.in_(run_ids))
    rows = connection.execute(statement).mappings()
    skills = {row["skill_id"]: {name: row[name] for name in row if name != "skill_id"} for row in rows}
    return {"calibrated_skills": skills, "count": len(skills)}


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
class Standing:
    """What `skill_bkt_params` holds of some skills: parameters with their date, or why they are no parameters."""

    params: dict[str, tuple[BktParams, dt.datetime]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)


def standing_params(connection: Connection, platform: Platform, keys: Sequence[str]) -> Standing:
    """The parameters that `skill_bkt_params` holds now; a skill without a row is in neither part."""
    target = platform.target
    rows = connection.execute(
        select(
            cast(target.c.skill_id, Text).label("skill_id"),
            target.c.calibrated_at,
            *(cast(target.c[name], Double).label(name) for name in PARAMETERS),
        ).where(target.c.skill_id.in_(platform.skill_ids(keys)))
    )
    found = Standing()
    for row in rows:
        since = row.calibrated_at
        try:
            params = BktParams(*(getattr(row, name) for name in PARAMETERS))
        except InvalidParams as error:
            found.unusable[row.skill_id] = f"its row in {target.name} holds no parameters: {error}"
            continue
        found.params[row.skill_id] = (params, since if since.tzinfo else since.replace(tzinfo=dt.UTC))
    return found
