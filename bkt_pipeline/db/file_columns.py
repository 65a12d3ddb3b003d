"""The format of a file of answers: its columns, delimiter and encoding.

This module reads the header. file_values.py and file_times.py parse the values below it.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from bkt_pipeline.errors import InvalidFile, InvalidSettings

if TYPE_CHECKING:
    from _csv import Reader as CsvReader


REQUIRED = ("skill_id", "student_id", "is_correct")


COLUMNS = (*REQUIRED, "item_id", "created_at", "order")


_DELIMITERS = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";"}


@dataclass(frozen=True)
class FileFormat:
    """How to read a file that differs from the default format.

    Parameters
    ----------
    columns : mapping
        From the names used here to the names in the header, such as ``{"skill_id": "KC (Default)"}``. A column that
        is not in the mapping has the name used here.
    only : tuple of (header name, value)
        Keep only the rows that have all of these values; other rows are left out and counted.
    delimiter : str
        One character, or tab, comma or semicolon. If it is empty, tab or comma, whichever is more frequent in the
        header.
    skill_separator : str
        Separates several skills in one cell, such as ``~~``. If it is empty, each cell is one skill.
    encoding : str
        A text encoding that Python supports.

    Raises
    ------
    InvalidSettings
        One of the parameters is invalid.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    only: tuple[tuple[str, str], ...] = ()
    delimiter: str = ""
    skill_separator: str = ""
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if unknown := [name for name in self.columns if name not in COLUMNS]:
            raise InvalidSettings(
                f"--column {unknown[0]}=...: there is no column {unknown[0]!r} to fill; use {', '.join(COLUMNS)}."
            )
        if self.delimiter and (len(self.delimiter_character) != 1 or self.delimiter_character in '"\r\n'):
            raise InvalidSettings(
                f"--delimiter is {self.delimiter!r}; it must be tab, comma, semicolon or another single character."
            )
        try:
            "text".encode(self.encoding)
        except (LookupError, ValueError):
            raise InvalidSettings(
                f"--encoding is {self.encoding!r}; it must be a text encoding, such as utf-8, latin-1 or cp1252."
            ) from None

    @property
    def delimiter_character(self) -> str:
        """The delimiter itself; empty if it depends on the header."""
        return _DELIMITERS.get(self.delimiter.lower(), self.delimiter)

    @property
    def codec(self) -> str:
        """The encoding; for UTF-8, the variant that skips a byte order mark."""
        return "utf-8-sig" if codecs.lookup(self.encoding).name == "utf-8" else self.encoding


@dataclass(frozen=True)
class Columns:
    """The positions of the columns in a row, counted from 0.

    Parameters
    ----------
    width : int
        Number of columns in the header.
    skills : tuple of int
        Several if the header repeats the name, as in exports with several skills for each answer.
    item, time : int or None
        None if the file has no such column.
    time_name : str
        "created_at", "order", or "" for the order of the file.
    only : tuple of (name, place, value)
    """

    width: int
    skills: tuple[int, ...]
    student: int
    is_correct: int
    item: int | None
    time: int | None
    time_name: str
    only: tuple[tuple[str, int, str], ...]


def read_header(path: Path, lines: TextIO, form: FileFormat) -> tuple[Columns, CsvReader]:
    """Read the first line of a file; returns its columns and a reader for the rows below.

    Raises
    ------
    InvalidFile
        The line is empty, not a header, or lacks a column. The message quotes no values, because without a header the
        first line is a row of data.
    """
    first = lines.readline()
    if not first:
        raise InvalidFile(f"{path} is empty: there is nothing to load.")
    delimiter = form.delimiter_character or ("\t" if first.count("\t") > first.count(",") else ",")
    # Tab-delimited exports do not quote fields: a quote is an ordinary character, perhaps part of a student's answer.
    unquoted = delimiter == "\t" and '"' not in first
    reader = csv.reader(
        chain([first], lines),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if unquoted else csv.QUOTE_MINIMAL,
        strict=True,
    )
    try:
        header = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise InvalidFile(f"{path} is not a CSV file: its first line cannot be read ({error}).") from error
    return _find_columns(path, header, form, delimiter), reader


def _find_columns(path: Path, header: list[str], form: FileFormat, delimiter: str) -> Columns:
    wanted = {name: form.columns.get(name, name) for name in COLUMNS}
    time_name = next((name for name in _time_columns(form) if wanted[name] in header), "")
    needed = [*REQUIRED, *form.columns]
    missing = [wanted[name] for name in needed if wanted[name] not in header]
    missing += [name for name, _ in form.only if name not in header]
    if missing:
        raise InvalidFile(_missing_columns(path, header, form, delimiter, list(dict.fromkeys(missing))))
    used = [wanted[name] for name in ("student_id", "is_correct", "item_id") if wanted[name] in header]
    used += [wanted[time_name]] if time_name else []
    for name in (*used, *(name for name, _ in form.only)):
        if header.count(name) > 1:
            raise InvalidFile(f"{path} has the column {_shown(name)} twice: rename one of them.")
    place = {name: header.index(wanted[name]) for name in wanted if wanted[name] in header}
    return Columns(
        width=len(header),
        skills=tuple(index for index, name in enumerate(header) if name == wanted["skill_id"]),
        student=place["student_id"],
        is_correct=place["is_correct"],
        item=place.get("item_id"),
        time=place[time_name] if time_name else None,
        time_name=time_name,
        only=tuple((name, header.index(name), value) for name, value in form.only),
    )


def _time_columns(form: FileFormat) -> Iterable[str]:
    # A user who maps only `order` does not want a created_at that happens to be in the file.
    only_order = "order" in form.columns and "created_at" not in form.columns
    return ("order",) if only_order else ("created_at", "order")


def _missing_columns(
    path: Path, header: list[str], form: FileFormat, delimiter: str, missing: list[str]
) -> str:
    between = {"\t": "tabs", ",": "commas"}.get(delimiter, repr(delimiter))
    columns = f"{len(header):,} {'column' if len(header) == 1 else 'columns'}"
    message = (
        f"{path} lacks the column {' and '.join(map(_shown, missing))}. Its first line must be a header; it has "
        f"{columns} separated by {between}. Expected: {', '.join(REQUIRED)}, and if there are such columns "
        "item_id and created_at or order. A column with another name is named by --column, such as "
        '--column skill_id="KC (Default)".'
    )
    if len(header) == 1 and not form.delimiter:
        message += " If something else separates the columns, name it with --delimiter."
    if any("\0" in name or "\ufffd" in name for name in header):
        message += " The file may be in another encoding: name it with --encoding, such as --encoding utf-16."
    return message


def _shown(name: str) -> str:
    # A name from the user may contain any characters.
    return name if name in COLUMNS else repr(name)
