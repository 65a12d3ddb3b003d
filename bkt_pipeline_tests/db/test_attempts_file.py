"""Files of answers: what is read, what is refused and how, and what then stands in a real database."""

import gzip
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, NullPool, create_engine, func, select, text
from sqlalchemy import table as sql_table
from sqlalchemy.engine import make_url

from bkt_pipeline.db.attempts_file import Attempts, read_attempts_file
from bkt_pipeline.db.source_tables import create_source_tables, write_attempts, write_school
from bkt_pipeline.errors import DatabaseError, InvalidFile, InvalidSettings, SourceSchemaError
from bkt_pipeline.model.simulate import school
from bkt_pipeline_tests.helpers.glops import FILE, needs_glops

AS_OF = datetime(2026, 3, 1, 7, tzinfo=UTC)
HEADER = "skill_id,student_id,item_id,is_correct,created_at\n"
GOOD_ROW = "fractions,maria,item-1,1,2026-02-20T10:00:00Z\n"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Attempts]:
    def read(content: str | bytes, as_of: datetime = AS_OF, name: str = "answers.csv") -> Attempts:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_attempts_file(path, as_of)

    return read


@contextmanager
def transaction(url: str) -> Iterator[Connection]:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.begin() as connection:
        yield connection


def times(attempts: Attempts) -> list[datetime]:
    start = datetime(1970, 1, 1, tzinfo=UTC)
    return [start + timedelta(microseconds=int(us)) for us in attempts.created_us]


def count(connection: Connection, table: str) -> object:
    return connection.execute(select(func.count()).select_from(sql_table(table))).scalar()


# --------------------------------------------------------------------------------------------------------
# Read


def test_a_row_becomes_an_attempt(read: Callable[..., Attempts]) -> None:
    attempts = read(HEADER + GOOD_ROW)
    assert len(attempts) == 1
    assert attempts.skills == ("fractions",)
    assert attempts.items == (("item-1", "fractions"),)
    assert attempts.student_id.tolist() == ["maria"]
    assert attempts.item_id.tolist() == ["item-1"]
    assert attempts.is_correct.tolist() == [1]
    assert times(attempts) == [datetime(2026, 2, 20, 10, tzinfo=UTC)]


def test_columns_may_stand_in_any_order_among_others(read: Callable[..., Attempts]) -> None:
    attempts = read(
        "hints, created_at ,is_correct,item_id,student_id,skill_id\n"
        '"1, or 2",2026-02-20T10:00Z,0,item-1,maria,fractions\n'
    )
    assert attempts.skills == ("fractions",)
    assert attempts.is_correct.tolist() == [0]


@pytest.mark.parametrize("name", ["answers.csv.gz", "answers.csv", "answers"])
def test_a_gzipped_file_is_known_by_its_content(read: Callable[..., Attempts], name: str) -> None:
    assert len(read(gzip.compress((HEADER + GOOD_ROW).encode()), name=name)) == 1


@pytest.mark.parametrize("content", ["\ufeff" + HEADER + GOOD_ROW, (HEADER + GOOD_ROW).replace("\n", "\r\n")])
def test_files_of_spreadsheets_are_read(read: Callable[..., Attempts], content: str) -> None:
    assert read(content).skills == ("fractions",)


@pytest.mark.parametrize(
    ("written", "grade"),
    [
        *((yes, 1) for yes in ("1", "true", "TRUE", "t", "1.0", " 1 ")),
        *((no, 0) for no in ("0", "false", "False", "f", "0.0")),
        ("", -1),
        ('""', -1),
    ],
)
def test_is_correct_has_several_forms(read: Callable[..., Attempts], written: str, grade: int) -> None:
    assert read(HEADER + GOOD_ROW.replace(",1,", f",{written},")).is_correct.tolist() == [grade]


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-02-20", datetime(2026, 2, 20, tzinfo=UTC)),
        ("2026-02-20 10:00", datetime(2026, 2, 20, 10, tzinfo=UTC)),
        ("2026-02-20T10:00:00.000123", datetime(2026, 2, 20, 10, 0, 0, 123, tzinfo=UTC)),
        ("2026-02-20T10:00:00Z", datetime(2026, 2, 20, 10, tzinfo=UTC)),
        ("2026-02-20T10:00:00+05:30", datetime(2026, 2, 20, 4, 30, tzinfo=UTC)),
        ("2026-02-20T10:00:00.123456789Z", datetime(2026, 2, 20, 10, 0, 0, 123456, tzinfo=UTC)),
    ],
)
def test_created_at_is_iso_8601_and_utc_unless_it_says_otherwise(
    read: Callable[..., Attempts], written: str, moment: datetime
) -> None:
    assert times(read(HEADER + GOOD_ROW.replace("2026-02-20T10:00:00Z", written))) == [moment]


def test_rows_are_put_in_order_of_time_and_equal_times_keep_the_files_order(
    read: Callable[..., Attempts],
) -> None:
    rows = ("late,2026-02-03", "first,2026-02-02", "second,2026-02-02", "early,2026-02-01")
    attempts = read(
        "skill_id,item_id,is_correct,student_id,created_at\n" + "".join(f"s,i,1,{row}\n" for row in rows)
    )
    assert attempts.student_id.tolist() == ["early", "first", "second", "late"]


def rows_in_order(*orders: object) -> str:
    return "skill_id,student_id,item_id,is_correct,order\n" + "".join(f"s,maria,i,1,{o}\n" for o in orders)


def test_order_places_the_last_answer_at_as_of_and_the_others_seconds_earlier(
    read: Callable[..., Attempts],
) -> None:
    attempts = read(rows_in_order(7, "5", "6.0", 5))
    assert times(attempts) == [AS_OF - timedelta(seconds=before) for before in (2, 2, 1, 0)]


@pytest.mark.parametrize("last", [3_000_000, 10**12, 10**18 - 1])
def test_orders_that_span_more_than_the_window_are_drawn_together(
    read: Callable[..., Attempts], last: int
) -> None:
    placed = times(read(rows_in_order(-5, last // 2, last)))
    assert placed == sorted(set(placed))
    assert placed[-1] == AS_OF
    assert AS_OF - timedelta(days=30) < placed[0] < AS_OF - timedelta(days=28)


def test_created_at_counts_where_there_is_order_too(read: Callable[..., Attempts]) -> None:
    attempts = read(HEADER.replace("\n", ",order\n") + GOOD_ROW.replace("\n", ",not a number\n"))
    assert times(attempts) == [datetime(2026, 2, 20, 10, tzinfo=UTC)]


def test_item_ids_that_start_anew_in_each_skill_are_told_apart(read: Callable[..., Attempts]) -> None:
    attempts = read(HEADER + GOOD_ROW + GOOD_ROW.replace("fractions", "decimals"))
    assert attempts.items == (("decimals/item-1", "decimals"), ("fractions/item-1", "fractions"))
    assert attempts.item_id.tolist() == ["fractions/item-1", "decimals/item-1"]


def test_items_that_cannot_be_told_apart_are_refused(read: Callable[..., Attempts]) -> None:
    pairs = [("a", "b/c"), ("a/b", "c"), ("x", "c")]
    content = HEADER + "".join(f"{skill},maria,{item},1,2026-02-20\n" for skill, item in pairs)
    with pytest.raises(InvalidFile, match=r"\('a', 'b/c'\) from \('a/b', 'c'\)"):
        read(content)


def test_as_of_needs_a_zone(read: Callable[..., Attempts]) -> None:
    with pytest.raises(InvalidSettings, match="time zone"):
        read(HEADER + GOOD_ROW, as_of=datetime(2026, 3, 1))


# --------------------------------------------------------------------------------------------------------
# Refuse


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("fractions,maria,item-1,yes,2026-02-20", "is_correct is 'yes'"),
        ("fractions,maria,item-1,2,2026-02-20", "is_correct is '2'"),
        ("fractions,maria,item-1,1,20.02.2026", "created_at is '20.02.2026'"),
        ("fractions,maria,item-1,1,2026-02-30", "created_at is '2026-02-30'"),
        ("fractions,maria,item-1,1,now", "created_at is 'now'"),
        ("fractions,maria,item-1,1,1771581600", "created_at is '1771581600'"),
        ("fractions,maria,item-1,1,", "created_at is ''"),
        (",maria,item-1,1,2026-02-20", "skill_id is empty"),
        ("fractions, ,item-1,1,2026-02-20", "student_id is empty"),
        ("fractions,maria,,1,2026-02-20", "item_id is empty"),
        ("fractions,maria,item-1,1", "has 4 fields where the header has 5"),
        ("fractions,maria,item-1,1,2026-02-20,maria", "has 6 fields where the header has 5"),
        ("frac\0tions,maria,item-1,1,2026-02-20", "skill_id holds a control character"),
        ('"frac\ntions",maria,item-1,1,2026-02-20', "skill_id holds a control character"),
        ("fractions,mar\tia,item-1,1,2026-02-20", "student_id holds a control character"),
        ("f" * 201 + ",maria,item-1,1,2026-02-20", "skill_id is longer than 200 characters"),
        ('fractions,maria,"item"-1,1,2026-02-20', "is no CSV"),
        ('fractions,maria,"item-1,1,2026-02-20', "is no CSV"),
        (f"fractions,maria,{'x' * 200_000},1,2026-02-20", "is no CSV"),
    ],
)
def test_a_bad_row_is_refused_by_its_line(read: Callable[..., Attempts], row: str, reason: str) -> None:
    with pytest.raises(InvalidFile, match=re.escape(f"line 4: {reason}")) as caught:
        read(HEADER + GOOD_ROW * 2 + row + "\n" + GOOD_ROW)
    assert "1 bad row" in str(caught.value)
    assert "maria" not in str(caught.value)


def test_bytes_that_are_no_utf_8_are_refused_by_their_line(read: Callable[..., Attempts]) -> None:
    content = (HEADER + GOOD_ROW + GOOD_ROW.replace("fractions", "brüche")).encode("latin-1")
    with pytest.raises(InvalidFile, match="line 3: skill_id is no valid UTF-8"):
        read(content)


def test_lines_are_counted_through_blank_lines_and_quoted_newlines(read: Callable[..., Attempts]) -> None:
    content = (
        HEADER.replace("\n", ",note\n")
        + GOOD_ROW.replace("\n", ',"two\nlines"\n')
        + "\n\n"
        + GOOD_ROW.replace(",1,", ",x,").replace("\n", ",\n")
    )
    with pytest.raises(InvalidFile, match="line 6: is_correct is 'x'"):
        read(content)


def test_the_first_five_bad_rows_are_shown_and_all_are_counted(read: Callable[..., Attempts]) -> None:
    bad = GOOD_ROW.replace(",1,", ",x,")
    with pytest.raises(InvalidFile, match="25,001 bad rows") as caught:
        read(HEADER + GOOD_ROW * 9_999 + bad * 25_000 + GOOD_ROW + "short\n")
    shown = re.findall(r"line (\d+):", str(caught.value))
    assert shown == [str(line) for line in range(10_001, 10_006)]
    assert "24,996 more" in str(caught.value)


def test_a_row_with_two_faults_counts_once(read: Callable[..., Attempts]) -> None:
    with pytest.raises(InvalidFile, match="1 bad row;"):
        read(HEADER + ",,,x,never\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (HEADER, "no rows"),
        (HEADER + "\n\n", "no rows"),
        ("skill_id,student_id,is_correct,created_at\n", "lacks the column item_id"),
        ("skill_id,student_id,item_id,is_correct\n", "lacks the column order"),
        (HEADER.replace(",", ";"), "lacks the column skill_id and .* Found: 'skill_id;student_id"),
        (HEADER.replace("\n", ",item_id\n"), "column item_id twice"),
        ('"skill_id\n', "no CSV file"),
        (HEADER.encode("utf-16"), "lacks the column"),
        (b"\x1f\x8b\x08\x00nonsense", "cannot be read"),
        (gzip.compress((HEADER + GOOD_ROW * 1000).encode())[:-20], "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_refused(
    read: Callable[..., Attempts], content: str | bytes, message: str
) -> None:
    with pytest.raises(InvalidFile, match=message) as caught:
        read(content)
    assert "answers.csv" in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.csv", tmp_path):
        with pytest.raises(InvalidFile, match="cannot be read"):
            read_attempts_file(path, AS_OF)


# --------------------------------------------------------------------------------------------------------
# Write


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
def test_a_load_is_refused_where_ids_are_no_text(
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
def test_a_table_that_takes_no_such_rows_is_named_and_no_student_is(
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
