"""Which failures of the database are worth another try."""

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.connection import make_engine
from bkt_pipeline.db.retry import retrying
from bkt_pipeline.errors import DatabaseUnavailable

TRANSIENT = [
    "08000",
    "08006",
    "08P01",
    "25006",
    "25P03",
    "40001",
    "40P01",
    "53100",
    "53300",
    "55P03",
    "57P01",
    "57P05",
]
PERMANENT = ["57014", "42501", "42P01", "23505", "22012", "28000"]


class Failing:
    """Work whose first tries end with a state of the server's."""

    def __init__(self, state: str, times: int = 1) -> None:
        self.state, self.times, self.tries = state, times, 0

    def __call__(self, connection: Connection) -> int:
        self.tries += 1
        if self.tries <= self.times:
            connection.execute(text(f"DO 'BEGIN RAISE EXCEPTION USING ERRCODE = ''{self.state}''; END'"))
        return connection.execute(text("SELECT 1")).scalar_one()


@pytest.mark.parametrize("state", TRANSIENT)
def test_what_may_pass_is_tried_again(empty_database: str, state: str) -> None:
    work = Failing(state)
    engine = make_engine(empty_database)
    assert retrying(engine, work) == 1
    assert work.tries == 2
    engine.dispose()


@pytest.mark.parametrize("state", PERMANENT)
def test_what_stays_is_reported_at_once(empty_database: str, state: str) -> None:
    work = Failing(state)
    engine = make_engine(empty_database)
    with pytest.raises(DBAPIError):
        retrying(engine, work)
    assert work.tries == 1
    engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///x?service=nowhere",
        "postgresql:///x?host=127.0.0.1&sslmode=never",
    ],
)
def test_a_connection_that_can_never_be_made_is_tried_once(url: str) -> None:
    with pytest.raises((DatabaseUnavailable, psycopg.Error, DBAPIError)) as failure:
        retrying(make_engine(url, budget_seconds=2), lambda connection: None)
    assert "gave up after" not in str(failure.value)


def test_a_role_or_database_that_is_missing_is_tried_once(empty_database: str) -> None:
    for url in (
        empty_database.replace("postgres@", "nobody_here@", 1),
        empty_database.replace("/test_", "/missing_", 1),
    ):
        with pytest.raises(DatabaseUnavailable) as failure:
            retrying(make_engine(url, budget_seconds=2), lambda connection: None)
        assert "gave up after" not in str(failure.value)
