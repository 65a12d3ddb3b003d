"""One night as a whole: the outcome of every skill, and how its parameters changed."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, RowMapping, func, select, true

from bkt_pipeline.calibration.comparison import Comparison, compare_estimators
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.skills import overtaken
from bkt_pipeline.db.clock import LATEST_NIGHT
from bkt_pipeline.db.fits import readable, reliability_of, scores_of
from bkt_pipeline.db.schema import PARAMETERS, night_skills, skill_fits
from bkt_pipeline.model.bkt.curves import Reliability
from bkt_pipeline.model.bkt.scores import Scores
from bkt_pipeline.model.params import BktParams

LARGEST_MOVES = 10


@dataclass(frozen=True)
class SkillNight:
    """One skill in the night, with its parameters and those of the latest earlier night that calibrated it."""

    skill_id: str
    outcome: Outcome
    reason: str | None
    attempts: int | None
    students: int | None
    params: BktParams | None
    previous: BktParams | None
    estimator: str | None = None
    held_out: Mapping[str, Scores] = field(default_factory=dict)
    reliability: Reliability | None = None

    @property
    def changes(self) -> tuple[float, ...]:
        """Change of each parameter; zeros if there is nothing to compare with."""
        if self.params is None or self.previous is None:
            return (0.0,) * len(PARAMETERS)
        return tuple(
            round(now - before, 12)
            for now, before in zip(self.params.values, self.previous.values, strict=True)
        )

    @property
    def moved_most(self) -> int:
        """Index of the parameter that changed most."""
        return max(range(len(PARAMETERS)), key=lambda place: abs(self.changes[place]))

    @property
    def move(self) -> float:
        """The largest absolute change."""
        return abs(self.changes[self.moved_most])

    @property
    def per_attempt(self) -> float | None:
        """Log-likelihood per attempt."""
        if self.params is None or self.params.log_likelihood is None or not self.attempts:
            return None
        return self.params.log_likelihood / self.attempts


def latest_night_date(connection: Connection) -> dt.date | None:
    """The latest night in the ledger; a night in the future comes from a wrong clock and is ignored."""
    night: dt.date | None = connection.execute(
        select(func.max(night_skills.c.night)).where(night_skills.c.night <= LATEST_NIGHT)
    ).scalar()
    return night


def latest_as_of(connection: Connection, night: dt.date) -> dt.datetime | None:
    """The latest end of a window in the night."""
    as_of: dt.datetime | None = connection.execute(
        select(func.max(night_skills.c.as_of)).where(night_skills.c.night == night)
    ).scalar()
    return as_of


def latest_calibration(connection: Connection) -> tuple[dt.datetime, dt.timedelta] | None:
    """The as_of of the latest night that calibrated a skill, and its age by the database's clock; None if there is none.

    A night that was rolled back since counts: it ran.
    """
    ledger, ran = night_skills.c, (Outcome.CALIBRATED.value, Outcome.ROLLED_BACK.value)
    row = connection.execute(
        select(func.max(ledger.as_of), func.now() - func.max(ledger.as_of)).where(
            ledger.outcome.in_(ran), ledger.night <= LATEST_NIGHT
        )
    ).one()
    return (row[0], row[1]) if row[0] is not None else None


def attempts_of_earlier_nights(connection: Connection, night: dt.date, nights: int) -> list[int]:
    """How many graded attempts each of the last `nights` nights before `night` read, latest first."""
    ledger = night_skills
    rows = connection.execute(
        select(func.coalesce(func.sum(ledger.c.attempts), 0))
        .where(ledger.c.night < night)
        .group_by(ledger.c.night)
        .order_by(ledger.c.night.desc())
        .limit(nights)
    )
    return [int(attempts) for attempts in rows.scalars()]


def read_night(connection: Connection, night: dt.date, as_of: dt.datetime | None = None) -> list[SkillNight]:
    """Every skill that has an outcome in the night, ordered by id.

    With `as_of`, the night is that of a run: a skill that a newer run of the same date calibrated was overtaken.
    """
    now, fits = night_skills, skill_fits
    params = [fits.c[name] for name in ("skill_id", *PARAMETERS, "log_likelihood")]
    scores = [column for column in fits.c if column.name.startswith("held_out_")]
    before = (
        select(*params)
        .where(fits.c.skill_id == now.c.skill_id, fits.c.night < night)
        .order_by(fits.c.night.desc())
        .limit(1)
        .lateral("before")
    )
    last = connection.execute(
        select(before).select_from(now.join(before, true())).where(now.c.night == night)
    )
    previous = dict(readable(last.mappings(), _params))
    stored = connection.execute(select(*params, fits.c.estimator, *scores).where(fits.c.night == night))
    tonight = dict(readable(stored.mappings(), lambda row: (_params(row), row)))
    rows = connection.execute(select(now).where(now.c.night == night).order_by(now.c.skill_id))
    return [_skill_night(row, tonight.get(row.skill_id), previous.get(row.skill_id), as_of) for row in rows]


def largest_moves(night: Sequence[SkillNight]) -> list[SkillNight]:
    """The skills whose parameters changed most since the night before, the largest change first."""
    moved = [skill for skill in night if skill.move > 0]
    return sorted(moved, key=lambda skill: (-skill.move, skill.skill_id))[:LARGEST_MOVES]


def compare_night(skills: Sequence[SkillNight]) -> Comparison | None:
    """Which estimator predicts the night's skills best; None if no student could be held out."""
    estimators = [skill.estimator for skill in skills if skill.estimator]
    published = max(set(estimators), key=estimators.count) if estimators else "grid"
    return compare_estimators([skill.held_out for skill in skills], published)


def _skill_night(
    row: "Row[Any]",
    fit: tuple[BktParams, RowMapping] | None,
    previous: BktParams | None,
    as_of: dt.datetime | None,
) -> SkillNight:
    outcome, reason = Outcome(row.outcome), row.reason
    if as_of is not None and outcome is Outcome.CALIBRATED and row.as_of > as_of:
        outcome, reason = Outcome.OVERTAKEN, overtaken(row.as_of)
    params, fitted = fit if fit and outcome is Outcome.CALIBRATED else (None, None)
    return SkillNight(
        skill_id=row.skill_id,
        outcome=outcome,
        reason=reason,
        attempts=row.attempts,
        students=row.students,
        params=params,
        previous=previous,
        estimator=fitted["estimator"] if fitted else None,
        held_out=scores_of(fitted) if fitted else {},
        reliability=reliability_of(fitted) if fitted else None,
    )


def _params(row: RowMapping) -> BktParams:
    return BktParams(*(row[name] for name in (*PARAMETERS, "log_likelihood")))
