"""Files of answers: which are refused, and how."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bkt_pipeline.db.attempts_file import Attempts, read_attempts_file
from bkt_pipeline.errors import InvalidFile
from bkt_pipeline_tests.helpers.answer_files import (
    AS_OF,
    GOOD_ROW,
    HEADER,
)


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
