import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import psycopg
import pytest
from sqlalchemy import Connection, Engine

from bkt_pipeline.db.attempts import read_active_skills, read_windows
from bkt_pipeline.db.connection import make_engine, transaction
from bkt_pipeline.db.platform import reflect
from bkt_pipeline.db.retry import retrying
from bkt_pipeline.errors import WindowOvertaken, WindowStoreUnavailable, WindowUnusable
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.windows.postgres import PostgresWindows
from bkt_pipeline.windows.store import StoredWindow
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.stored_windows import AS_OF, SECOND, get, micros, put, window_of


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
    with connected(platform.url) as connection:
        found = read_windows(connection, reflect(connection), ["fractions"], AS_OF, 30)
    assert "skill 'fractions' is not a bigint" in str(found["fractions"])


@pytest.fixture
def migrated(own_tables: str) -> Iterator[Engine]:
    engine = make_engine(own_tables)
    yield engine
    engine.dispose()


@pytest.fixture
def store(migrated: Engine) -> PostgresWindows:
    return PostgresWindows(partial(retrying, migrated))


def execute(engine: Engine, statement: str) -> None:
    with transaction(engine) as connection:
        connection.exec_driver_sql(statement)


@pytest.mark.parametrize("in_place", ["first", "middle", "last"])
def test_a_refused_window_affects_no_other(store: PostgresWindows, in_place: str) -> None:
    good = [window_of(f"skill {n:03}", [[True, False], [True]]) for n in range(150)]
    name = {"first": "a", "middle": "skill 050x", "last": "z"}[in_place]
    bad = replace(window_of(name, [[True]]), student_ids=("a\0b",))
    refused = put(store, *good, bad)
    assert list(refused) == [name]
    assert not isinstance(refused[name], WindowOvertaken)
    assert get(store, *(window.skill_id for window in (*good, bad))) == {w.skill_id: w for w in good}


def test_a_window_that_is_refused_keeps_the_one_before(store: PostgresWindows, migrated: Engine) -> None:
    old, other = window_of("a", [[True, False]]), window_of("b", [[True]])
    put(store, old, other)
    execute(migrated, "ALTER TABLE bkt_pipeline.attempt_window ADD CHECK (skill_id <> 'a') NOT VALID")
    newer, newer_other = (window_of(key, [[False]], AS_OF + SECOND) for key in "ab")
    assert list(put(store, newer, newer_other)) == ["a"]
    assert get(store, "a", "b") == {"a": old, "b": newer_other}


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM bkt_pipeline.attempt_window WHERE skill_id = 'a'",
        "UPDATE bkt_pipeline.attempt_window SET answers = answers || '1' WHERE skill_id = 'a'",
        "UPDATE bkt_pipeline.attempt_window SET answers = '☃' WHERE skill_id = 'a'",
        "UPDATE bkt_pipeline.attempt_window SET answers = '7' WHERE skill_id = 'a'",
        "UPDATE bkt_pipeline.attempt_window SET answered_at = ARRAY[NULL]::timestamptz[] WHERE skill_id = 'a'",
        "UPDATE bkt_pipeline.attempt_window SET answered_at = '{infinity}' WHERE skill_id = 'a'",
        "UPDATE bkt_pipeline.attempt_windows SET window_days = 0 WHERE skill_id = 'a'",
        "UPDATE bkt_pipeline.attempt_windows SET as_of = 'infinity' WHERE skill_id = 'a'",
    ],
)
def test_a_damaged_window_costs_only_its_own_skill(
    store: PostgresWindows, migrated: Engine, damage: str
) -> None:
    good, fresh = window_of("b", [[True]]), window_of("a", [[False]], AS_OF + SECOND)
    put(store, window_of("a", [[True]]), good)
    execute(migrated, damage)
    loaded = store.load(["a", "b"])
    assert loaded["b"] == StoredWindow(good, "run")
    assert isinstance(loaded["a"], WindowUnusable)
    assert "materialise attempt_window" in str(loaded["a"])
    assert put(store, fresh) == {}
    assert get(store, "a") == {"a": fresh}


def test_stored_windows_can_be_queried(store: PostgresWindows, migrated: Engine) -> None:
    put(store, window_of("a", [[True, False], [True]]))
    with transaction(migrated) as connection:
        rows = connection.exec_driver_sql(
            "SELECT skill_id, student_id, answers, answered_at FROM bkt_pipeline.attempt_window ORDER BY student_id"
        ).all()
    assert rows == [("a", "s0000", "10", [AS_OF, AS_OF]), ("a", "s0001", "1", [AS_OF])]


def test_forgetting_keeps_the_counts_true(store: PostgresWindows, migrated: Engine) -> None:
    put(store, window_of("a", [[True, False], [True]]))
    assert store.forget("s0000") == 1
    with transaction(migrated) as connection:
        rows = connection.exec_driver_sql("SELECT students, attempts FROM bkt_pipeline.attempt_windows").all()
    assert rows == [(1, 1)]


def test_no_access_is_reported_with_what_to_do(store: PostgresWindows, migrated: Engine) -> None:
    execute(
        migrated,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE insufficient_privilege; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON bkt_pipeline.attempt_window FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    with pytest.raises(WindowStoreUnavailable, match=r"SQLSTATE 42501.*migrate --print-grants"):
        store.check_access()


def test_tables_that_the_first_night_makes_may_be_missing(empty_database: str) -> None:
    engine = make_engine(empty_database)
    PostgresWindows(partial(retrying, engine)).check_access()
    engine.dispose()
