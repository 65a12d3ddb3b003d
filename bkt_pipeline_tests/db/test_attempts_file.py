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


def test_columns_may_be_in_any_order_among_others(read: Callable[..., Attempts]) -> None:
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
        *((yes, 1) for yes in ("1", "true", "TRUE", "t", "1.0", " 1 ", "CORRECT", "Right", "yes", "Y")),
        *((no, 0) for no in ("0", "false", "False", "f", "0.0", "InCorrect", "wrong", "No", "n", "HINT")),
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
    attempts = read(rows_in_order(7, "5", "6.0") + "s,ann,i,1,5\n")
    assert times(attempts) == [AS_OF - timedelta(seconds=before) for before in (2, 2, 1, 0)]


@pytest.mark.parametrize("last", [3_000_000, 10**12, 10**18 - 1])
def test_gaps_in_the_order_do_not_spread_the_answers(read: Callable[..., Attempts], last: int) -> None:
    placed = times(read(rows_in_order(-5, last // 2, last)))
    assert placed == [AS_OF - timedelta(seconds=before) for before in (2, 1, 0)]


@pytest.mark.slow
def test_many_answers_without_dates_are_placed_within_the_last_day(read: Callable[..., Attempts]) -> None:
    placed = times(read(rows_in_order(*range(200_000))))
    assert len(set(placed)) == 200_000
    assert placed == sorted(placed)
    assert placed[-1] == AS_OF
    assert AS_OF - timedelta(days=1) <= placed[0] < AS_OF - timedelta(hours=20)


def test_an_order_may_be_a_time(read: Callable[..., Attempts]) -> None:
    attempts = read(rows_in_order("2006-02-02 08:00:00.0", "2005-09-09", "2006-02-02 07:59:59.5"))
    assert times(attempts) == [AS_OF - timedelta(seconds=before) for before in (2, 1, 0)]
    with pytest.raises(InvalidFile, match="line 3: order is '7'; it must be ISO 8601"):
        read(rows_in_order("2006-02-02", 7))
    with pytest.raises(InvalidFile, match="line 3: order is '2006-02-02'; it must be an integer"):
        read(rows_in_order(7, "2006-02-02"))


def test_without_created_at_and_order_the_order_of_the_file_counts(read: Callable[..., Attempts]) -> None:
    rows = "".join(f"fractions,{student},1\n" for student in ("zoe", "adam", "zoe", "zoe"))
    attempts = read("skill_id,student_id,is_correct\n" + rows)
    assert attempts.student_id.tolist() == ["zoe", "adam", "zoe", "zoe"]
    assert times(attempts) == [AS_OF - timedelta(seconds=before) for before in (3, 2, 1, 0)]
    assert attempts.time_name == ""


def test_without_item_id_each_skill_is_one_item(read: Callable[..., Attempts]) -> None:
    attempts = read("skill_id,student_id,is_correct\nfractions,maria,1\ndecimals,maria,0\n")
    assert attempts.items == (("decimals", "decimals"), ("fractions", "fractions"))
    assert attempts.item_id.tolist() == ["fractions", "decimals"]


def test_several_skills_in_one_cell_are_an_answer_for_each(read: Callable[..., Attempts]) -> None:
    attempts = read(HEADER + GOOD_ROW.replace("fractions", "sums ~~carry~~sums~~"), skill_separator="~~")
    assert attempts.skills == ("carry", "sums")
    assert attempts.items == (("carry/item-1", "carry"), ("sums/item-1", "sums"))
    assert attempts.item_id.tolist() == ["sums/item-1", "carry/item-1"]
    assert len(set(times(attempts))) == 1


def test_rows_without_a_skill_or_a_student_are_left_out_and_counted(read: Callable[..., Attempts]) -> None:
    no_skill = "".join(GOOD_ROW.replace("fractions", missing) for missing in ("", " ", "NA", "NULL", "nan"))
    no_student = "".join(GOOD_ROW.replace("maria", missing) for missing in ("", "None", "<NA>"))
    attempts = read(HEADER + no_skill + GOOD_ROW + no_student + ",,,x,never\n")
    assert len(attempts) == 1
    assert attempts.left_out == {"without a skill": 6, "without a student": 3}


def test_exact_repeats_are_left_out_and_counted(read: Callable[..., Attempts]) -> None:
    other = [GOOD_ROW.replace(*change) for change in ((",1,", ",0,"), ("maria", "ann"), ("10:00", "10:01"))]
    attempts = read(HEADER + GOOD_ROW + "".join(other) + GOOD_ROW * 2 + other[0])
    assert len(attempts) == 4
    assert attempts.left_out == {"exact repeats": 3}
    by_order = read(rows_in_order(1, 2, 2, 3))
    assert (len(by_order), by_order.left_out) == (3, {"exact repeats": 1})


def test_answers_of_one_day_are_not_repeats_where_times_are_days(read: Callable[..., Attempts]) -> None:
    attempts = read(HEADER + GOOD_ROW.replace("T10:00:00Z", "") * 3)
    assert len(attempts) == 3
    assert attempts.left_out == {}


def test_created_at_counts_where_there_is_order_too(read: Callable[..., Attempts]) -> None:
    attempts = read(HEADER.replace("\n", ",order\n") + GOOD_ROW.replace("\n", ",not a number\n"))
    assert times(attempts) == [datetime(2026, 2, 20, 10, tzinfo=UTC)]


def test_item_ids_that_occur_in_several_skills_get_the_skill_in_front(read: Callable[..., Attempts]) -> None:
    attempts = read(HEADER + GOOD_ROW + GOOD_ROW.replace("fractions", "decimals"))
    assert attempts.items == (("decimals/item-1", "decimals"), ("fractions/item-1", "fractions"))
    assert attempts.item_id.tolist() == ["fractions/item-1", "decimals/item-1"]


def test_items_that_would_get_the_same_name_are_refused(read: Callable[..., Attempts]) -> None:
    pairs = [("a", "b/c"), ("a/b", "c"), ("x", "c")]
    content = HEADER + "".join(f"{skill},maria,{item},1,2026-02-20\n" for skill, item in pairs)
    with pytest.raises(InvalidFile, match=r"\('a', 'b/c'\) and \('a/b', 'c'\)"):
        read(content)


def test_as_of_needs_a_zone(read: Callable[..., Attempts]) -> None:
    with pytest.raises(InvalidSettings, match="time zone"):
        read(HEADER + GOOD_ROW, as_of=datetime(2026, 3, 1))
