"""Nights as the ledger keeps them, without Dagster: calibrated and published in one transaction, in milliseconds."""

import datetime as dt
from dataclasses import replace
from functools import cache, partial

from sqlalchemy import Connection

from bkt_pipeline import __version__
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.db.database import Database
from bkt_pipeline.db.ledger import SkillOutcome, record
from bkt_pipeline.db.params import publish
from bkt_pipeline.model import AttemptWindow, BktParams, SkillFit, calibrate
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline.windows.store import window_store
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.schools import stored

FIRST = dt.datetime(2026, 1, 1, 7, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def keep_night(
    database: Database, platform: Platform, number: int, *skills: int, window_days: int = 30
) -> dict[str, tuple[float, ...]]:
    """Calibrate the skills as of that night; returns what the backend reads of all skills then."""
    as_of = FIRST + number * DAY
    windows, fits = {}, []
    for skill in skills:
        key = str(platform.id(skill))
        window, fit = _calibrated(key, 100 * skill + number % 5)
        later = (as_of - window.as_of) // dt.timedelta(microseconds=1)
        windows[key] = replace(
            window, as_of=as_of, window_days=window_days, answered_at=window.answered_at + later
        )
        fits.append(replace(fit, as_of=as_of))
    assert list(window_store(database.run).store(windows, f"run {number}")) == []
    database.run(partial(_publish, database=database, fits=fits, run_id=f"run {number}"))
    return stored(platform)


def _publish(connection: Connection, database: Database, fits: list[SkillFit], run_id: str) -> None:
    written = publish(connection, database.platform, fits, run_id, __version__)
    rows = [
        SkillOutcome(fit.skill_id, fit.as_of, Outcome.CALIBRATED, attempts=fit.n_attempts)
        for fit in fits
        if fit.skill_id in written
    ]
    record(connection, rows, run_id)


@cache
def _calibrated(key: str, seed: int) -> tuple[AttemptWindow, SkillFit]:
    window = simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=20, seed=seed, lengths=4, skill_id=key)
    return window, calibrate(window)


def date(number: int) -> str:
    """The night's date, as the commands take it."""
    return (FIRST + number * DAY).date().isoformat()
