"""Stores each night's `SkillFit` as one row, and loads it again."""

import datetime as dt
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Double,
    LargeBinary,
    Row,
    RowMapping,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from bkt_pipeline.calibration.baseline import History
from bkt_pipeline.calibration.labels import printable
from bkt_pipeline.db.schema import COMPARED, ESTIMATES, PARAMETERS, SCORES, published_params, skill_fits
from bkt_pipeline.db.upsert import unless_newer, upsert
from bkt_pipeline.model.bkt.curves import BINS, Reliability
from bkt_pipeline.model.bkt.evidence import Evidence, Tier
from bkt_pipeline.model.bkt.fit import SkillFit
from bkt_pipeline.model.bkt.prior import Moments, SchoolPrior, prior_from_moments
from bkt_pipeline.model.bkt.scores import HeldOut, Scores
from bkt_pipeline.model.bkt.uncertainty import Estimate, Uncertainty
from bkt_pipeline.model.params import BktParams

R = TypeVar("R", bound=RowMapping | Mapping[str, Any])
T = TypeVar("T")

log = logging.getLogger("bkt_pipeline")

_NO_FIT = {column.name: None for column in skill_fits.c if column.name != "stored_at"}


def readable(rows: Iterable[R], read: Callable[[R], T]) -> Iterator[tuple[str, T]]:
    """The skill of each stored row and what `read` makes of it, without rows that somebody has changed to something invalid.

    For what other skills' nights read too: one odd row must not cost them theirs.
    """
    for row in rows:
        try:
            yield row["skill_id"], read(row)
        except (ValueError, TypeError) as error:
            log.warning(
                "a stored row of skill %s is not valid and is left out: %s", printable(row["skill_id"]), error
            )


def store_fits(connection: Connection, fits: Sequence[SkillFit], run_id: str, code_version: str) -> None:
    """Store the fits under the night of their as_of."""
    rows = [fit_row(fit) | {"run_id": run_id, "code_version": code_version} for fit in fits]
    upsert(connection, skill_fits, rows, keys=["night", "skill_id"], guard=unless_newer, stamp="stored_at")


def fit_row(fit: SkillFit) -> dict[str, Any]:
    """The fit as a row of `skill_fits`, without the run that made it."""
    return {
        # Set every column, so nothing survives from an earlier fit of the night.
        **_NO_FIT,
        "night": fit.as_of.astimezone(dt.UTC).date(),
        "skill_id": fit.skill_id,
        "as_of": fit.as_of,
        **_parameters(fit.published),
        **_parameters(fit.params, "grid_"),
        **(_parameters(fit.polished, "polished_") if fit.polished else {}),
        **(_parameters(fit.pooled, "pooled_") if fit.pooled else {}),
        **(_moments(fit.moments) if fit.moments else {}),
        **(_held_out(fit.held_out, fit.estimator) if fit.held_out else {}),
        "attempts": fit.n_attempts,
        "students": fit.n_students,
        "distinct_sequences": fit.n_distinct,
        "ungraded": fit.ungraded,
        "tier": str(fit.evidence.tier),
        "flags": list(fit.evidence.flags),
        "answers_to_mastery": fit.evidence.answers_to_mastery,
        "share_with_three": fit.evidence.share_with_three,
        **(_uncertainty(fit.uncertainty) if fit.uncertainty else {}),
        "seconds": fit.seconds,
        "estimator": fit.estimator,
    }


def load_fits(connection: Connection, keys: Sequence[str]) -> dict[str, SkillFit]:
    """The fits that `skill_bkt_params` shows for these skills; a skill never calibrated is left out.

    The held-out scores are not loaded: `read_night` returns them.
    """
    rows = connection.execute(
        select(skill_fits)
        .join(
            published_params,
            (published_params.c.skill_id == skill_fits.c.skill_id)
            & (published_params.c.as_of == skill_fits.c.as_of),
        )
        .where(skill_fits.c.skill_id.in_(keys))
        .order_by(skill_fits.c.skill_id)
    )
    return dict(readable(rows.mappings(), _fit))


def _fit(row: RowMapping) -> SkillFit:
    sure = None
    if row["gap"] is not None:
        estimates = {
            name: Estimate(**{part: row[f"{name}_{part}"] for part in ESTIMATES}) for name in PARAMETERS
        }
        sure = Uncertainty(**estimates, gap=row["gap"], n_close=row["points_close"])
    polished = row["polished_p_l0"] is not None
    return SkillFit(
        skill_id=row["skill_id"],
        params=_params(row, "grid_"),
        n_attempts=row["attempts"],
        n_students=row["students"],
        n_distinct=row["distinct_sequences"],
        ungraded=row["ungraded"],
        as_of=row["as_of"],
        uncertainty=sure,
        evidence=Evidence(
            tier=Tier(row["tier"]),
            flags=tuple(row["flags"]),
            answers_to_mastery=row["answers_to_mastery"],
            share_with_three=row["share_with_three"],
        ),
        polished=_params(row, "polished_") if polished else None,
        pooled=_params(row, "pooled_") if row["pooled_p_l0"] is not None else None,
        moments=moments_of(row) if row["moment_mean"] is not None else None,
        seconds=row["seconds"],
        estimator=row["estimator"],
    )


def _parameters(params: BktParams, prefix: str = "") -> dict[str, float | None]:
    return {f"{prefix}{name}": getattr(params, name) for name in (*PARAMETERS, "log_likelihood")}


def _params(row: RowMapping, prefix: str) -> BktParams:
    return BktParams(*(row[f"{prefix}{name}"] for name in (*PARAMETERS, "log_likelihood")))


def _moments(moments: Moments) -> dict[str, list[float]]:
    return {
        "moment_mean": moments.mean.tolist(),
        "moment_covariance": moments.covariance.reshape(-1).tolist(),
    }


def moments_of(row: RowMapping) -> Moments:
    """The moments of a stored fit that has them."""
    return Moments(np.array(row["moment_mean"]), np.array(row["moment_covariance"]).reshape(4, 4))


def _held_out(held_out: HeldOut, estimator: str) -> dict[str, Any]:
    scores = {
        f"held_out_{name}_{score}": getattr(held_out.scores[name], score)
        for name in COMPARED
        for score in SCORES
    }
    bins = held_out.reliability[estimator]
    return {
        **scores,
        "held_out_students": held_out.students,
        "held_out_attempts": held_out.attempts,
        "held_out_bins": [*bins.answers, *bins.right, *bins.predicted],
    }


def scores_of(row: RowMapping) -> dict[str, Scores]:
    """The held-out scores of a stored fit, by estimator; empty if too few students were held out."""
    if row["held_out_students"] is None:
        return {}
    return {name: Scores(**{score: row[f"held_out_{name}_{score}"] for score in SCORES}) for name in COMPARED}


def reliability_of(row: RowMapping) -> Reliability | None:
    """The held-out answers of a stored fit by their prediction; None if it has none, or an older version stored it."""
    values = row["held_out_bins"]
    if values is None:
        return None
    counts = tuple(map(int, values[: 2 * BINS]))
    return Reliability(counts[:BINS], counts[BINS:], tuple(values[2 * BINS :]))


def school_prior(connection: Connection, night: dt.date) -> SchoolPrior:
    """The school's prior, learned from each skill's latest fit before `night`."""
    fits = skill_fits.c
    earlier = (fits.night < night) & fits.moment_mean.is_not(None)
    last = (
        select(fits.skill_id, func.max(fits.night).label("night"))
        .where(earlier)
        .group_by(fits.skill_id)
        .subquery()
    )
    rows = connection.execute(
        select(fits.skill_id, fits.moment_mean, fits.moment_covariance)
        .join(last, (last.c.skill_id == fits.skill_id) & (last.c.night == fits.night))
        .order_by(fits.skill_id)
    )
    return prior_from_moments([moments for _, moments in readable(rows.mappings(), moments_of)])


def _uncertainty(sure: Uncertainty) -> dict[str, float]:
    parts = {
        f"{name}_{part}": getattr(getattr(sure, name), part) for name in PARAMETERS for part in ESTIMATES
    }
    return {**parts, "gap": sure.gap, "points_close": sure.n_close}


def earlier_fits(
    connection: Connection, keys: Sequence[str], night: dt.date, nights: int
) -> dict[str, History]:
    """The last `nights` nights before `night` that calibrated each skill; a new skill is left out."""
    fits = skill_fits.c
    given = (
        func.unnest(bindparam("keys", type_=ARRAY(Text)))
        .table_valued(column("skill_id", Text))
        .render_derived("given")
    )
    ends = [fits[f"{name}_{end}"] for name in PARAMETERS for end in ("low", "high")]
    numbers = [fits.attempts, fits.log_likelihood, *(fits[name] for name in PARAMETERS), *ends]
    missing = cast(literal("NaN"), Double)
    as_bytes: list[ColumnElement[Any]] = [
        func.float8send(func.coalesce(cast(number, Double), missing)) for number in numbers
    ]
    recent = (
        select(fits.night, reduce(lambda packed, more: packed.op("||")(more), as_bytes).label("numbers"))
        .where(
            fits.skill_id == given.c.skill_id,
            fits.night < night,
            fits.log_likelihood.is_not(None),
            fits.attempts > 0,
        )
        .order_by(fits.night.desc())
        .limit(nights)
        .lateral("recent")
    )
    order = recent.c.night.desc()
    packed = func.string_agg(recent.c.numbers, aggregate_order_by(literal(b""), order), type_=LargeBinary)
    rows = connection.execute(
        select(
            given.c.skill_id,
            func.array_agg(aggregate_order_by(recent.c.night, order)).label("nights"),
            packed.label("numbers"),
        )
        .select_from(given.join(recent, true()))
        .group_by(given.c.skill_id),
        {"keys": list(keys)},
    )
    of_skill: dict[str, list[Sequence[Any]]] = {}
    for skill_id, values in readable(chain.from_iterable(map(_unpacked, rows)), _night):
        of_skill.setdefault(skill_id, []).append(values)
    return {skill_id: _history(nights_of_skill) for skill_id, nights_of_skill in of_skill.items()}


def _unpacked(row: Row[Any]) -> Iterator[dict[str, Any]]:
    """The nights of a skill. Postgres sends them as one row, with eight bytes for each number, and NaN for a missing one."""
    numbers = np.frombuffer(row.numbers, ">f8").reshape(len(row.nights), -1).tolist()
    for night, of_night in zip(row.nights, numbers, strict=True):
        yield {"skill_id": row.skill_id, "night": night, "numbers": of_night}


def _night(row: Mapping[str, Any]) -> Sequence[Any]:
    """Night, log-likelihood per attempt, four parameters and the ends of their intervals."""
    attempts, log_likelihood, p_l0, p_transit, p_slip, p_guess, *ends = row["numbers"]
    per_attempt = log_likelihood / attempts
    if not math.isfinite(per_attempt):
        raise ValueError(f"its log-likelihood per attempt is {per_attempt}")
    params = BktParams(p_l0, p_transit, p_slip, p_guess, log_likelihood)
    return row["night"], per_attempt, params, ends


def _history(nights_of_skill: Sequence[Sequence[Any]]) -> History:
    nights, per_attempt, params, ends = zip(*nights_of_skill, strict=True)
    values = np.array([each.values for each in params], np.float32)
    intervals = np.array(ends, np.float32).reshape(-1, 4, 2)
    return History(per_attempt, params[0], nights, np.concatenate([values[:, :, None], intervals], axis=2))
