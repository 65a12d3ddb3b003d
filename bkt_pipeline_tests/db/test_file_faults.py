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
        ("fractions,maria,item-1,maybe,2026-02-20", "is_correct is 'maybe'"),
        ("fractions,maria,item-1,2,2026-02-20", "is_correct is '2'"),
        ("fractions,maria,item-1,1,20.02.2026", "created_at is '20.02.2026'"),
        ("fractions,maria,item-1,1,2026-02-30", "created_at is '2026-02-30'"),
        ("fractions,maria,item-1,1,now", "created_at is 'now'"),
        ("fractions,maria,item-1,1,1771581600", "created_at is '1771581600'"),
        ("fractions,maria,item-1,1,", "created_at is ''"),
        ("fractions,maria,,1,2026-02-20", "item_id is empty"),
        ("fractions,maria,item-1,1", "has 4 fields where the header has 5"),
        ("fractions,maria,item-1,1,2026-02-20,maria", "has 6 fields where the header has 5"),
        ("frac\0tions,maria,item-1,1,2026-02-20", "skill_id holds a control character"),
        ('"frac\ntions",maria,item-1,1,2026-02-20', "skill_id holds a control character"),
        ("fractions,mar\tia,item-1,1,2026-02-20", "student_id holds a control character"),
        ("frac\x1b[31mtions,maria,item-1,1,2026-02-20", "skill_id holds a control character"),
        ("fractions,maria,item-\x9b,1,2026-02-20", "item_id holds a control character"),
        ("f" * 2_501 + ",maria,item-1,1,2026-02-20", "skill_id is longer than 2,500 bytes"),
        ("é" * 1_251 + ",maria,item-1,1,2026-02-20", "skill_id is longer than 2,500 bytes"),
        (
            f"{'f' * 1000},{'m' * 1000},{'i' * 601},1,2026-02-20",
            "skill_id, student_id and item_id together are",
        ),
        ('fractions,maria,"item"-1,1,2026-02-20', "is not CSV"),
        ('fractions,maria,"item-1,1,2026-02-20', "is not CSV"),
        (f"fractions,maria,{'x' * 200_000},1,2026-02-20", "is not CSV"),
    ],
)
def test_a_bad_row_is_refused_by_its_line(read: Callable[..., Attempts], row: str, reason: str) -> None:
    with pytest.raises(InvalidFile, match=re.escape(f"line 4: {reason}")) as caught:
        read(HEADER + GOOD_ROW * 2 + row + "\n" + GOOD_ROW)
    assert "1 bad row" in str(caught.value)
    assert "maria" not in str(caught.value)


def test_bytes_that_are_not_utf_8_are_refused_by_their_line(read: Callable[..., Attempts]) -> None:
    content = (HEADER + GOOD_ROW + GOOD_ROW.replace("fractions", "brüche")).encode("latin-1")
    with pytest.raises(InvalidFile, match="line 3: skill_id is not valid in this encoding"):
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
        read(HEADER + "fractions,maria,,x,never\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (HEADER, "no rows"),
        (HEADER + "\n\n", "no rows"),
        ("skill_id,student_id,item_id,created_at\n", "lacks the column is_correct"),
        (HEADER + GOOD_ROW.replace("fractions", "") * 2, "no row that can be loaded.*: 2 without a skill"),
        (HEADER.replace(",", ";"), "has 1 column separated by commas.*--delimiter"),
        (HEADER.replace("\n", ",item_id\n"), "column item_id twice"),
        ('"skill_id\n', "not a CSV file"),
        (HEADER.encode("utf-16"), "lacks the column.*--encoding utf-16"),
        (b"\x1f\x8b\x08\x00nonsense", "cannot be read"),
        (gzip.compress((HEADER + GOOD_ROW * 1000).encode(), mtime=0)[:-20], "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_refused(
    read: Callable[..., Attempts], content: str | bytes, message: str
) -> None:
    with pytest.raises(InvalidFile, match=message) as caught:
        read(content)
    assert "answers.csv" in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.csv", tmp_path):
        with pytest.raises(InvalidFile, match="cannot be read"):
            read_attempts_file(path, AS_OF)


def test_a_file_without_a_header_is_refused_and_its_first_row_is_not_shown(
    read: Callable[..., Attempts],
) -> None:
    with pytest.raises(
        InvalidFile, match=r"it has 5 columns separated by commas. Expected: skill_id"
    ) as caught:
        read(GOOD_ROW * 3)
    assert not re.search("maria|fractions|item-1|2026", str(caught.value))


def test_values_of_a_wrong_column_are_not_shown(read: Callable[..., Attempts]) -> None:
    rows = "".join(f"fractions,CORRECT,{student}\n" for student in ("maria", "ann", "zoe"))
    with pytest.raises(
        InvalidFile, match=r"No row has a usable is_correct.*--column is_correct=NAME"
    ) as caught:
        read("skill_id,student_id,is_correct\n" + rows)
    assert not re.search("maria|ann|zoe", str(caught.value))


def test_a_students_id_in_another_column_is_not_shown(read: Callable[..., Attempts]) -> None:
    with pytest.raises(InvalidFile, match="line 3: is_correct must be 1 or 0") as caught:
        read(HEADER + GOOD_ROW + GOOD_ROW.replace(",1,", ",maria,"))
    assert "maria" not in str(caught.value)


def test_a_value_is_shown_with_its_escapes_visible(read: Callable[..., Attempts]) -> None:
    with pytest.raises(InvalidFile) as caught:
        read(HEADER + GOOD_ROW + GOOD_ROW.replace(",1,", ",\x1b]0;title\x07\x9b,"))
    assert r"is_correct is '\x1b]0;title\x07\x9b'" in str(caught.value)


def test_two_skills_that_would_become_one_are_refused(read: Callable[..., Attempts]) -> None:
    rows = "".join(GOOD_ROW.replace("fractions", skill) for skill in ("wait...", "wait…"))
    with pytest.raises(InvalidFile, match=r'line 3: skill_id .*"…" is another skill'):
        read(HEADER + rows)
    assert read(HEADER + rows.splitlines(keepends=True)[0]).skills == ("wait…",)
