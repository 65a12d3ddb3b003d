"""What a load leaves in a real database."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from bkt_pipeline.db.attempts_file import Attempts, read_attempts_file
from bkt_pipeline.db.source_tables import create_source_tables, write_attempts, write_school
from bkt_pipeline.errors import DatabaseError, SourceSchemaError
from bkt_pipeline.model.simulate import school
from bkt_pipeline_tests.helpers.answer_files import (
    AS_OF,
    GOOD_ROW,
    HEADER,
    count,
    transaction,
)
from bkt_pipeline_tests.helpers.glops import FILE, needs_glops


def test_a_load_fills_an_empty_database(read: Callable[..., Attempts], empty_database: str) -> None:
    attempts = read(HEADER + GOOD_ROW + GOOD_ROW.replace(",1,", ",0,") + GOOD_ROW.replace(",1,", ",,"))
    with transaction(empty_database) as connection:
        create_source_tables(connection)
        write_attempts(connection, attempts)
    with transaction(empty_database) as connection:
        assert connection.execute(text("SELECT id, active FROM skills")).all() == [("fractions", True)]
        assert connection.execute(text("SELECT id, skill_id FROM items")).all() == [("item-1", "fractions")]
        rows = connection.execute(
            text("SELECT student_id, item_id, is_correct, created_at FROM attempts ORDER BY id")
        ).all()
        moment = datetime(2026, 2, 20, 10, tzinfo=UTC)
        assert rows == [("maria", "item-1", grade, moment) for grade in (True, False, None)]


def test_ids_are_written_as_they_are(read: Callable[..., Attempts], empty_database: str) -> None:
    hostile = "back\\slash 'quote' %s {} 数据 \\N"
    with transaction(empty_database) as connection:
        create_source_tables(connection)
        write_attempts(connection, read(HEADER + GOOD_ROW.replace("fractions", hostile)))
        assert connection.execute(text("SELECT id FROM skills")).scalar() == hostile


def test_source_tables_are_made_once_with_the_indexes_that_a_night_needs(empty_database: str) -> None:
    for _ in range(2):
        with transaction(empty_database) as connection:
            create_source_tables(connection)
    with transaction(empty_database) as connection:
        indexes = set(connection.execute(text("SELECT indexdef FROM pg_indexes")).scalars())
    assert any(
        "attempts" in i and "(item_id, created_at) INCLUDE (student_id, is_correct, id)" in i for i in indexes
    )
    assert any("items" in i and "(skill_id)" in i for i in indexes)


def test_a_platforms_own_tables_are_left_as_they_are(make_platform: Callable[..., object]) -> None:
    url = make_platform("bigint").url
    definition = text("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")
    with transaction(url) as connection:
        before = connection.execute(definition).all()
        create_source_tables(connection)
        assert connection.execute(definition).all() == before


@pytest.mark.parametrize("timestamp_type", ["timestamptz", "timestamp"])
def test_a_load_goes_into_a_platforms_empty_tables_with_text_ids(
    read: Callable[..., Attempts], make_platform: Callable[..., object], timestamp_type: str
) -> None:
    with transaction(make_platform("text", timestamp_type).url) as connection:
        connection.execute(text("SET TIME ZONE 'Pacific/Auckland'"))
        write_attempts(connection, read(HEADER + GOOD_ROW))
        connection.execute(text("SET TIME ZONE 'UTC'"))
        stored = connection.execute(text("SELECT created_at::text FROM attempts")).scalar()
    assert str(stored).startswith("2026-02-20 10:00:00")


@pytest.mark.parametrize("id_type", ["uuid", "bigint"])
def test_a_load_is_refused_if_ids_are_not_text(
    read: Callable[..., Attempts], make_platform: Callable[..., object], id_type: str
) -> None:
    with (
        pytest.raises(SourceSchemaError, match=rf"skills\.id is {id_type}"),
        transaction(make_platform(id_type).url) as connection,
    ):
        write_attempts(connection, read(HEADER + GOOD_ROW))


def test_a_load_is_refused_where_there_are_rows_already(
    read: Callable[..., Attempts], empty_database: str
) -> None:
    attempts = read(HEADER + GOOD_ROW)
    with transaction(empty_database) as connection:
        create_source_tables(connection)
        write_attempts(connection, attempts)
    with (
        pytest.raises(DatabaseError, match=r"rows already.*DATABASE_URL"),
        transaction(empty_database) as connection,
    ):
        write_attempts(connection, attempts)
    with transaction(empty_database) as connection:
        assert count(connection, "attempts") == 1


def test_a_load_is_refused_where_there_are_no_tables(
    read: Callable[..., Attempts], empty_database: str
) -> None:
    with pytest.raises(SourceSchemaError, match="no table skills"), transaction(empty_database) as connection:
        write_attempts(connection, read(HEADER + GOOD_ROW))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("ALTER TABLE attempts ADD school_id text NOT NULL", '"school_id"'),
        ("ALTER TABLE attempts ADD CHECK (student_id LIKE 'student-%')", "attempts_student_id_check"),
        ("ALTER TABLE attempts ALTER student_id TYPE varchar(3)", "a value does not fit"),
    ],
)
def test_a_table_that_refuses_rows_is_named_without_student_ids(
    read: Callable[..., Attempts], make_platform: Callable[..., object], change: str, message: str
) -> None:
    url = make_platform("text").url
    with transaction(url) as connection:
        connection.execute(text(change))
    with pytest.raises(SourceSchemaError, match=message) as caught, transaction(url) as connection:
        write_attempts(connection, read(HEADER + GOOD_ROW))
    assert "maria" not in str(caught.value)
    assert caught.value.__suppress_context__
    with transaction(url) as connection:
        assert [count(connection, table) for table in ("skills", "items", "attempts")] == [0, 0, 0]


def test_the_school_is_stored_with_its_ages_before_as_of(empty_database: str) -> None:
    made = school()
    with transaction(empty_database) as connection:
        create_source_tables(connection)
        write_school(connection, made, AS_OF)
        assert count(connection, "attempts") == made.n_attempts
        assert count(connection, "skills") == len(made.skills)
        assert count(connection, "items") == len(made.items)
        first, last, ungraded = connection.execute(
            text(
                "SELECT min(created_at), max(created_at), count(*) FILTER (WHERE is_correct IS NULL) FROM attempts"
            )
        ).one()
        assert last == AS_OF - timedelta(microseconds=int(made.age_us.min()))
        assert first == AS_OF - timedelta(microseconds=int(made.age_us.max()))
        assert ungraded == (made.is_correct == -1).sum() > 0
        in_order = text("SELECT student_id, item_id FROM attempts ORDER BY created_at, id")
        stored = connection.execute(in_order).all()
        assert stored == list(zip(made.student_id.tolist(), made.item_id.tolist(), strict=True))
        inactive = connection.execute(text("SELECT count(*) FROM skills WHERE NOT active")).scalar()
        assert inactive == 1


@needs_glops
def test_the_real_answers_load_whole(empty_database: str) -> None:
    attempts = read_attempts_file(FILE, AS_OF)
    assert (len(attempts), len(attempts.skills)) == (70_668, 42)
    with transaction(empty_database) as connection:
        create_source_tables(connection)
        write_attempts(connection, attempts)
        assert count(connection, "attempts") == 70_668
        in_window = text("SELECT count(*) FROM attempts WHERE created_at > :start AND created_at <= :end")
        window = {"start": AS_OF - timedelta(days=30), "end": AS_OF}
        assert connection.execute(in_window, window).scalar() == 70_668
