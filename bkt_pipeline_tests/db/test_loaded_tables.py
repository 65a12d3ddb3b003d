"""Which tables a load fills, and which it replaces."""

from collections.abc import Callable

import pytest
from sqlalchemy import text

from bkt_pipeline.db.attempts_file import Attempts
from bkt_pipeline.db.loaded_tables import load_attempts
from bkt_pipeline.errors import DatabaseError
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.answer_files import GOOD_ROW, HEADER, count, transaction

OTHER = HEADER + GOOD_ROW.replace("fractions", "decimals") + GOOD_ROW.replace("fractions", "sums")


@pytest.fixture
def load(read: Callable[..., Attempts]) -> Callable[..., None]:
    def load(url: str, content: str, replace: bool = False) -> None:
        with transaction(url) as connection:
            load_attempts(connection, read(content), embedded=False, replace=replace)

    return load


def skills(url: str) -> list[str]:
    with transaction(url) as connection:
        return list(connection.execute(text("SELECT id FROM skills ORDER BY id")).scalars())


def test_an_earlier_file_is_replaced_only_where_that_is_asked_for(
    load: Callable[..., None], empty_database: str
) -> None:
    load(empty_database, HEADER + GOOD_ROW)
    with pytest.raises(DatabaseError, match=r"holds rows already.*--replace"):
        load(empty_database, OTHER)
    assert skills(empty_database) == ["fractions"]
    for _ in range(2):
        load(empty_database, OTHER, replace=True)
        assert skills(empty_database) == ["decimals", "sums"]


def test_results_from_the_replaced_file_are_deleted(load: Callable[..., None], empty_database: str) -> None:
    load(empty_database, HEADER + GOOD_ROW)
    with transaction(empty_database) as connection:
        connection.execute(text("CREATE TABLE skill_bkt_params (skill_id text)"))
        connection.execute(text("INSERT INTO skill_bkt_params VALUES ('fractions'), ('of the platform')"))
        connection.execute(text("CREATE SCHEMA bkt_pipeline"))
    load(empty_database, OTHER, replace=True)
    with transaction(empty_database) as connection:
        kept = connection.execute(text("SELECT skill_id FROM skill_bkt_params")).scalars().all()
        assert kept == ["of the platform"]
        assert connection.execute(text("SELECT to_regnamespace('bkt_pipeline')")).scalar() is None


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO attempts (student_id, item_id, created_at) VALUES ('x', 'item-1', now())",
        "INSERT INTO skills (id, active) VALUES ('new', true)",
        "DELETE FROM attempts",
    ],
)
def test_tables_that_something_else_writes_to_are_never_replaced(
    load: Callable[..., None], empty_database: str, change: str
) -> None:
    load(empty_database, HEADER + GOOD_ROW)
    with transaction(empty_database) as connection:
        connection.execute(text(change))
        before = [count(connection, table) for table in ("skills", "items", "attempts")]
    with pytest.raises(DatabaseError, match="something else writes to it"):
        load(empty_database, OTHER, replace=True)
    with transaction(empty_database) as connection:
        assert [count(connection, table) for table in ("skills", "items", "attempts")] == before


def test_a_platforms_own_tables_are_never_replaced(
    load: Callable[..., None], make_platform: Callable[..., Platform]
) -> None:
    url = make_platform("text").url
    # Into empty tables it goes, but they stay the platform's.
    load(url, HEADER + GOOD_ROW, replace=True)
    with pytest.raises(DatabaseError, match="did not write, and --replace never deletes"):
        load(url, OTHER, replace=True)
    assert skills(url) == ["fractions"]


def test_the_marks_are_comments_that_say_how_many_rows_were_loaded(
    load: Callable[..., None], empty_database: str
) -> None:
    load(empty_database, OTHER)
    with transaction(empty_database) as connection:
        comments = [
            connection.execute(text(f"SELECT obj_description('{table}'::regclass)")).scalar()
            for table in ("skills", "items", "attempts")
        ]
    assert comments == ["Loaded from a file by bkt-pipeline: 2 rows"] * 3
