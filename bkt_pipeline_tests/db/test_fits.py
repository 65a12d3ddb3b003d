import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection

from bkt_pipeline.db.connection import make_engine, transaction
from bkt_pipeline.db.fits import load_fits
from bkt_pipeline.db.params import current_since, night_result, publish
from bkt_pipeline.db.platform import Platform, reflect
from bkt_pipeline.model import SAFE_DEFAULT, BktParams, SkillFit, calibrate
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests import conftest

KEY = str(uuid.UUID(int=1))


@pytest.fixture
def connection(make_platform: Callable[..., conftest.Platform]) -> Iterator[Connection]:
    platform = make_platform(migrated=True)
    with psycopg.connect(platform.url) as plain:
        plain.execute("INSERT INTO skills (id) VALUES (%s)", [platform.id(1)])
    engine = make_engine(platform.url)
    with transaction(engine) as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def target(connection: Connection) -> Platform:
    return reflect(connection)


def fit(*, polished: bool = False, lengths: int = 5) -> SkillFit:
    window = simulate(BktParams(0.3, 0.2, 0.1, 0.2), n_students=40, seed=1, lengths=lengths, skill_id=KEY)
    return calibrate(window, polished=polished)


@pytest.mark.parametrize("kind", [{}, {"polished": True}, {"lengths": 1}], ids=str)
def test_a_fit_is_loaded_back_exactly(connection: Connection, target: Platform, kind: dict[str, Any]) -> None:
    made = fit(**kind)
    assert publish(connection, target, [made], "run", "1")
    loaded = load_fits(connection, [KEY, "never calibrated"])
    assert loaded == {KEY: made}
    assert loaded[KEY].seconds == made.seconds


def test_the_backend_sees_exactly_what_is_published(connection: Connection, target: Platform) -> None:
    made = replace(fit(polished=True), estimator="polished")
    assert made.polished is not None
    publish(connection, target, [made], "run", "1")
    row = connection.execute(target.target.select()).one()
    assert (row.p_l0, row.p_transit, row.p_slip, row.p_guess, row.log_likelihood) == (
        *made.polished.values,
        made.polished.log_likelihood,
    )
    assert list(current_since(connection, target, [KEY])) == [KEY]


def test_an_older_fit_writes_nothing(connection: Connection, target: Platform) -> None:
    made = fit()
    older = replace(made, as_of=made.as_of - dt.timedelta(days=1))
    assert publish(connection, target, [made], "run", "1")
    assert not publish(connection, target, [older], "run", "1")
    assert load_fits(connection, [KEY]) == {KEY: made}
    assert night_result(connection, older.as_of.date())["count"] == 0


def test_the_safe_default_never_replaces_a_row(connection: Connection, target: Platform) -> None:
    made = fit()
    publish(connection, target, [made], "run", "1")
    later = replace(made, as_of=made.as_of + dt.timedelta(days=1), params=SAFE_DEFAULT, uncertainty=None)
    publish(connection, target, [later], "run", "1")
    assert connection.execute(target.target.select()).one().p_l0 == made.params.p_l0
