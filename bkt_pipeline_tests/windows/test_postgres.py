import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Connection, Engine

from bkt_pipeline.db.attempts import read_active_skills, read_windows
from bkt_pipeline.db.connection import make_engine, transaction
from bkt_pipeline.db.migrations import migrate
from bkt_pipeline.db.platform import reflect
from bkt_pipeline.errors import SourceSchemaError
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.windows.postgres import load_windows, store_window
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.stored_windows import AS_OF, SECOND, micros, window_of, windows


def add_attempts(
    platform: Platform, rows: list[tuple[int, int, bool | None, dt.datetime]], skills: int = 2
) -> None:
    """Rows of (student, skill, is_correct, created_at); skill n has one item, n. Ids rise in the order of the rows."""
    with psycopg.connect(platform.url) as connection:
        for number in range(1, skills + 1):
            connection.execute("INSERT INTO skills (id, active) VALUES (%s, true)", [platform.id(number)])
            connection.execute("INSERT INTO items VALUES (%s, %s)", [platform.id(number)] * 2)
        for number, (student, skill, right, moment) in enumerate(rows):
            naive = moment.replace(tzinfo=None) if platform.timestamp_type == "timestamp" else moment
            connection.execute(
                "INSERT INTO attempts VALUES (%s, %s, %s, %s, %s)",
                [platform.id(number), platform.id(student), platform.id(skill), right, naive],
            )


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = make_engine(url)
    try:
        with transaction(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def read(platform: Platform, *skills: int, days: int = 30) -> list[AttemptWindow]:
    keys = [str(platform.id(skill)) for skill in skills]
    with connected(platform.url) as connection:
        windows = read_windows(connection, reflect(connection), keys, AS_OF, days)
    return [windows[key] for key in keys]


def test_a_window_is_each_students_answers_in_order(any_platform: Platform) -> None:
    add_attempts(
        any_platform,
        [
            (7, 1, True, AS_OF - 1 * SECOND),
            (7, 1, False, AS_OF - 9 * SECOND),
            (5, 1, True, AS_OF - 3 * SECOND),
            (5, 2, False, AS_OF - 2 * SECOND),
        ],
    )
    first, second = read(any_platform, 1, 2)
    assert first.student_ids == (str(any_platform.id(5)), str(any_platform.id(7)))
    assert first.responses.tolist() == [1, 0, 1]
    assert first.offsets.tolist() == [0, 1, 3]
    assert first.answered_at.tolist() == [micros(AS_OF - n * SECOND) for n in (3, 9, 1)]
    assert second.responses.tolist() == [0]


def test_the_primary_key_settles_equal_times(any_platform: Platform) -> None:
    add_attempts(any_platform, [(1, 1, bool(n % 3), AS_OF - SECOND) for n in range(12)])
    (window,) = read(any_platform, 1)
    assert window.responses.tolist() == [int(bool(n % 3)) for n in range(12)]


def test_the_windows_start_is_out_and_its_end_is_in(any_platform: Platform) -> None:
    month, tick = dt.timedelta(days=30), dt.timedelta(microseconds=1)
    add_attempts(
        any_platform,
        [
            (1, 1, False, AS_OF - month),
            (1, 1, True, AS_OF - month + tick),
            (1, 1, True, AS_OF),
            (1, 1, False, AS_OF + tick),
        ],
    )
    (window,) = read(any_platform, 1)
    assert window.responses.tolist() == [1, 1]


def test_ungraded_attempts_are_counted_but_are_no_evidence(any_platform: Platform) -> None:
    add_attempts(
        any_platform, [(1, 1, None, AS_OF), (1, 1, True, AS_OF), (2, 1, None, AS_OF), (3, 2, None, AS_OF)]
    )
    first, second = read(any_platform, 1, 2)
    assert (first.n_attempts, first.n_students, first.ungraded) == (1, 1, 2)
    assert (second.n_attempts, second.n_students, second.ungraded) == (0, 0, 1)


def test_infinite_times_are_outside_every_window(platform: Platform) -> None:
    add_attempts(platform, [(1, 1, True, AS_OF)])
    with psycopg.connect(platform.url) as connection:
        for moment in ("infinity", "-infinity"):
            connection.execute(
                "INSERT INTO attempts (student_id, item_id, is_correct, created_at) VALUES (%s, %s, true, %s)",
                [platform.id(1), platform.id(1), moment],
            )
    (window,) = read(platform, 1)
    assert window.n_attempts == 1


def test_only_active_skills_are_listed(any_platform: Platform) -> None:
    add_attempts(any_platform, [], skills=3)
    with psycopg.connect(any_platform.url) as connection:
        connection.execute("UPDATE skills SET active = false WHERE id = %s", [any_platform.id(2)])
    with connected(any_platform.url) as connection:
        found = read_active_skills(connection, reflect(connection))
    assert found == sorted(str(any_platform.id(n)) for n in (1, 3))


def test_a_key_of_another_database_is_named(make_platform) -> None:
    platform = make_platform("bigint")
    with (
        connected(platform.url) as connection,
        pytest.raises(SourceSchemaError, match="'fractions' is no BIGINT"),
    ):
        read_windows(connection, reflect(connection), ["fractions"], AS_OF, 30)


@pytest.fixture
def migrated(empty_database: str) -> Iterator[Engine]:
    engine = make_engine(empty_database)
    with transaction(engine) as connection:
        migrate(connection)
    yield engine
    engine.dispose()


@given(window=windows())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_stored_is_loaded_back_exactly(migrated: Engine, window: AttemptWindow) -> None:
    with transaction(migrated) as connection:
        assert store_window(connection, window, "run")
        assert load_windows(connection, [window.skill_id]) == {window.skill_id: window}


def test_a_replaced_window_leaves_no_stale_row(migrated: Engine) -> None:
    with transaction(migrated) as connection:
        store_window(connection, window_of("a", [[True, False], [True]]), "run")
        store_window(connection, window_of("b", [[False]]), "run")
        fresh = window_of("a", [[False]], AS_OF + SECOND)
        store_window(connection, fresh, "run")
        assert load_windows(connection, ["a"]) == {"a": fresh}
        assert load_windows(connection, ["b"]) == {"b": window_of("b", [[False]])}


def test_an_older_window_never_replaces_a_newer_one(migrated: Engine) -> None:
    newer, older = window_of("a", [[True]]), window_of("a", [[False]], AS_OF - SECOND)
    with transaction(migrated) as connection:
        assert store_window(connection, newer, "run")
        assert not store_window(connection, older, "run")
        assert load_windows(connection, ["a", "never stored"]) == {"a": newer}


def test_stored_windows_can_be_queried(migrated: Engine) -> None:
    with transaction(migrated) as connection:
        store_window(connection, window_of("a", [[True, False], [True]]), "run")
        rows = connection.exec_driver_sql(
            "SELECT skill_id, student_id, answers, answered_at FROM bkt_pipeline.attempt_window ORDER BY student_id"
        ).all()
    assert rows == [("a", "s0000", "10", [AS_OF, AS_OF]), ("a", "s0001", "1", [AS_OF])]
