"""The form of a file of answers: names of columns, delimiter, encoding, which rows."""

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bkt_pipeline.db.attempts_file import Attempts, read_attempts_file
from bkt_pipeline.db.file_columns import FileFormat
from bkt_pipeline.errors import InvalidFile, InvalidSettings
from bkt_pipeline_tests.helpers.answer_files import AS_OF, GOOD_ROW, HEADER, rows_in_order, times

OTHER_NAMES = {"skill_id": "KC (Default)", "student_id": "Anon Student Id", "is_correct": "Outcome"}


def test_columns_with_other_names_are_mapped(read: Callable[..., Attempts]) -> None:
    attempts = read(
        "Outcome,skill_id,Anon Student Id,KC (Default)\nCORRECT,not this,maria,sums\n", columns=OTHER_NAMES
    )
    assert attempts.skills == ("sums",)
    assert attempts.student_id.tolist() == ["maria"]
    assert attempts.is_correct.tolist() == [1]


def test_a_repeated_column_of_skills_is_several_skills(read: Callable[..., Attempts]) -> None:
    attempts = read(
        "Anon Student Id,Outcome,KC (Default),KC Category (Default),KC (Default)\n"
        "maria,CORRECT,sums,,carry\nmaria,HINT,sums,,\n",
        columns=OTHER_NAMES,
    )
    assert list(zip(attempts.item_id.tolist(), attempts.is_correct.tolist(), strict=True)) == [
        ("sums", 1),
        ("carry", 1),
        ("sums", 0),
    ]


def test_a_mapped_column_that_is_missing_is_named(read: Callable[..., Attempts]) -> None:
    with pytest.raises(InvalidFile, match=re.escape("lacks the column 'KC (Default)'")):
        read(HEADER + GOOD_ROW, columns={"skill_id": "KC (Default)"})
    with pytest.raises(InvalidFile, match="lacks the column 'Step'"):
        read(HEADER + GOOD_ROW, columns={"item_id": "Step"})


def test_an_order_that_is_mapped_counts_before_a_created_at_that_is_not(
    read: Callable[..., Attempts],
) -> None:
    attempts = read(HEADER.replace("\n", ",row\n") + GOOD_ROW.replace("\n", ",7\n"), columns={"order": "row"})
    assert times(attempts) == [AS_OF]


def test_only_some_rows_are_loaded_and_the_others_counted(read: Callable[..., Attempts]) -> None:
    content = HEADER.replace("\n", ",original\n") + GOOD_ROW.replace("\n", ",1\n")
    attempts = read(content + "short of nothing,,,never,never,0\n" * 2, only=(("original", "1"),))
    assert len(attempts) == 1
    assert attempts.left_out == {"whose original is not 1": 2}
    with pytest.raises(InvalidFile, match="lacks the column 'tutored'"):
        read(content, only=(("tutored", "1"),))


def test_tabs_are_found_in_the_header_and_quotes_between_them_are_ordinary(
    read: Callable[..., Attempts],
) -> None:
    content = (HEADER + GOOD_ROW).replace(",", "\t").replace("item-1", '"open').replace("fractions", "a, b")
    attempts = read(content)
    assert attempts.items == (('"open', "a, b"),)
    quoted = "\n".join(
        "\t".join(f'"{cell}"' for cell in line.split(",")) for line in (HEADER + GOOD_ROW).split()
    )
    assert read(quoted).skills == ("fractions",)


@pytest.mark.parametrize(("given", "character"), [("semicolon", ";"), (";", ";"), ("|", "|"), ("Tab", "\t")])
def test_another_delimiter_is_named(read: Callable[..., Attempts], given: str, character: str) -> None:
    assert read((HEADER + GOOD_ROW).replace(",", character), delimiter=given).skills == ("fractions",)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "UTF-8"])
def test_another_encoding_is_named(read: Callable[..., Attempts], encoding: str) -> None:
    content = (HEADER + GOOD_ROW.replace("fractions", "brüche")).encode(encoding)
    assert read(content, encoding=encoding).skills == ("brüche",)


def test_a_file_in_another_encoding_than_the_named_one_is_refused(read: Callable[..., Attempts]) -> None:
    with pytest.raises(InvalidFile, match="not in the encoding utf-16"):
        read((HEADER + GOOD_ROW).encode(), encoding="utf-16")


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"columns": {"skill": "KC"}}, "no column 'skill' to fill; use skill_id, student_id"),
        ({"delimiter": "::"}, "--delimiter is '::'"),
        ({"delimiter": '"'}, "--delimiter is"),
        ({"encoding": "latin-99"}, "--encoding is 'latin-99'"),
        ({"encoding": "rot13"}, "--encoding is 'rot13'"),
    ],
)
def test_a_form_that_is_not_usable_is_refused(form: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        FileFormat(**form)  # type: ignore[arg-type]


@pytest.mark.parametrize("packed", [False, True])
def test_a_pipe_is_read_from_start_to_end(tmp_path: Path, packed: bool) -> None:
    import gzip

    content = rows_in_order(*range(30_000)).encode()
    pipe = tmp_path / "answers"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(gzip.compress(content) if packed else content,))
    writer.start()
    attempts = read_attempts_file(pipe, AS_OF)
    writer.join()
    assert len(attempts) == 30_000
