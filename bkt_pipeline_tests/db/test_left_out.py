"""What the windows leave out, and what they cannot know about order, counted."""

import datetime as dt

import psycopg
from sqlalchemy import text

from bkt_pipeline.db.attempts import read_windows
from bkt_pipeline.db.left_out import LeftOut, Orphans, count_orphans, count_repeats, count_ties, left_out
from bkt_pipeline.db.platform import reflect_source
from bkt_pipeline.model.order import may_hold_repeats, tied_answers
from bkt_pipeline_tests.helpers.sources import AS_OF, connected, create

KEYS = ["1", "2"]


def test_attempts_that_belong_to_no_skill_are_counted(empty_database: str) -> None:
    create(
        empty_database,
        skills=("1", "2", "3"),
        after="DELETE FROM items WHERE id = '0'; UPDATE items SET skill_id = NULL WHERE id = '4';"
        "DELETE FROM skills WHERE id = '3'; UPDATE attempts SET item_id = NULL WHERE item_id = '1';"
        "UPDATE attempts SET created_at = '2020-01-01' WHERE item_id = '5';",
    )
    with connected(empty_database) as connection:
        found = count_orphans(connection, reflect_source(connection), AS_OF, 30)
    assert found == Orphans(without_item=12 + 6, without_skill=12 + 30)
    assert found.total == 60


def test_an_item_of_two_skills_is_not_an_orphan(empty_database: str) -> None:
    create(
        empty_database,
        after="ALTER TABLE items DROP CONSTRAINT items_pkey; INSERT INTO items VALUES ('0', NULL), ('0', 'gone')",
    )
    with connected(empty_database) as connection:
        assert count_orphans(connection, reflect_source(connection), AS_OF, 30) == Orphans(0, 0)


def test_what_is_left_out_is_counted_by_skill(empty_database: str) -> None:
    create(
        empty_database,
        after="UPDATE attempts SET student_id = NULL WHERE student_id = '1' AND item_id = '0';"
        "INSERT INTO attempts (student_id, item_id, is_correct, created_at) VALUES"
        " ('1', '4', true, now() + interval '1 day');"
        "INSERT INTO attempts (student_id, item_id, is_correct, created_at)"
        " SELECT student_id, item_id, is_correct, created_at FROM attempts WHERE item_id = '2';"
        "INSERT INTO attempts (student_id, item_id, is_correct, created_at)"
        " SELECT student_id, item_id, NOT is_correct, created_at FROM attempts WHERE item_id = '5';",
    )
    with connected(empty_database) as connection:
        source = reflect_source(connection)
        windows = read_windows(connection, source, KEYS, AS_OF, 30)
        candidates = [key for key, window in windows.items() if may_hold_repeats(window)]
        found = left_out(connection, source, KEYS, AS_OF, 30, candidates)
        assert count_repeats(connection, source, KEYS, AS_OF, 30) == found.repeats
    assert found == LeftOut(in_future={"2": 1}, without_student={"1": 2}, repeats={"1": 6})
    assert candidates == ["1"]


def test_ties_are_counted_alike_in_sql_and_in_the_window(empty_database: str) -> None:
    create(
        empty_database,
        key="uuid DEFAULT gen_random_uuid() PRIMARY KEY",
        after="UPDATE attempts SET created_at = date_trunc('hour', created_at)",
    )
    with connected(empty_database) as connection:
        source = reflect_source(connection)
        assert not source.order_is_total
        windows = read_windows(connection, source, KEYS, AS_OF, 30)
        ties = count_ties(connection, source, KEYS, AS_OF, 30)
        assert ties == {key: tied_answers(window) for key, window in windows.items()}
        by_hand = connection.execute(
            text(
                "SELECT sum(n) FROM (SELECT count(*) AS n FROM attempts WHERE item_id < '4'"
                " GROUP BY student_id, created_at HAVING count(DISTINCT is_correct) = 2) AS t"
            )
        ).scalar()
    assert ties["1"] == by_hand > 0


def test_a_time_without_zone_is_utc(empty_database: str) -> None:
    create(empty_database, time="timestamp")
    soon = dt.datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(hours=1)
    with psycopg.connect(empty_database) as connection:
        connection.execute("UPDATE attempts SET created_at = %s WHERE item_id = '0'", [soon])
    with connected(empty_database) as connection:
        assert left_out(connection, reflect_source(connection), KEYS, AS_OF, 30).in_future == {"1": 12}
