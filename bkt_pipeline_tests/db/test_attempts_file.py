"""Files of answers: what is read from them."""

import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from bkt_pipeline.db.attempts_file import Attempts
from bkt_pipeline.errors import InvalidFile, InvalidSettings
from bkt_pipeline_tests.helpers.answer_files import (
    AS_OF,
    GOOD_ROW,
    HEADER,
    rows_in_order,
    times,
)


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
