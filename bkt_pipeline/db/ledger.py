"""What became of each skill in each night: the statements that keep the ledger and read it."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from sqlalchemy import Connection, select

from bkt_pipeline.db.schema import night_skills
from bkt_pipeline.db.upsert import upsert


@dataclass(frozen=True)
class Outcome:
    """What became of one skill in one night; mirrors the table `night_skills`."""

    skill_id: str
    as_of: dt.datetime
    outcome: str
    reason: str | None = None
    attempts: int | None = None
    students: int | None = None
    ungraded: int | None = None
    log_likelihood: float | None = None
    seconds: float | None = None

    @property
    def night(self) -> dt.date:
        """UTC date of as_of."""
        return self.as_of.astimezone(dt.UTC).date()


def record(connection: Connection, outcome: Outcome, run_id: str) -> None:
    """Enter the outcome, over an earlier one of the same night unless that has a newer as_of."""
    upsert(
        connection,
        night_skills,
        {**asdict(outcome), "night": outcome.night, "run_id": run_id},
        keys=["night", "skill_id"],
        newest="as_of",
        stamp="recorded_at",
    )


def record_refused(connection: Connection, keys: Sequence[str], as_of: dt.datetime, run_id: str) -> None:
    """Enter the skills that no run can be for."""
    for key in sorted(keys):
        why = "Dagster takes no partition key that is empty or holds control characters or '...'"
        record(connection, Outcome(key, as_of, "failed", why), run_id)


def of_runs(connection: Connection, run_ids: Sequence[str]) -> list[Outcome]:
    """The outcomes that these runs recorded, in the order of the skills' ids."""
    rows = connection.execute(
        select(*(night_skills.c[field.name] for field in fields(Outcome)))
        .where(night_skills.c.run_id.in_(run_ids))
        .order_by(night_skills.c.skill_id)
    )
    return [Outcome(**row) for row in rows.mappings()]


def outcomes_since(connection: Connection, as_of: dt.datetime) -> dict[str, str]:
    """The latest outcome of each skill that has one as of then or later."""
    rows = connection.execute(
        select(night_skills.c.skill_id, night_skills.c.outcome)
        .where(night_skills.c.night >= as_of.astimezone(dt.UTC).date(), night_skills.c.as_of >= as_of)
        .order_by(night_skills.c.as_of)
    )
    return {row.skill_id: row.outcome for row in rows}
