"""Ids that would move the cursor, colour the terminal, reverse the text or forge a line are shown escaped."""

import datetime as dt
import io
import os
import tty
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout, suppress
from typing import BinaryIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.cli.console import write_line
from bkt_pipeline.cli.export import _print
from bkt_pipeline.cli.tables import items_totals, night_table
from bkt_pipeline.db.export import Exported
from bkt_pipeline.db.isolation import REFUSED_KEY, shown_key
from bkt_pipeline.db.ledger import ItemsOutcome, SkillOutcome

NIGHT = dt.datetime(2026, 1, 1, 7, tzinfo=dt.UTC)
HOSTILE = (
    "\x1b[31mred",
    "bell\x07",
    "c1\x9b31m",
    "rtl\u202eevil",
    "iso\u2066late",
    "line\u2028separator",
    "a\r\nb",
    "[bold]x[/]",
    "\udce9",
)


@pytest.mark.parametrize("width", [80, 160])
def test_no_id_of_a_night_reaches_the_terminal_as_it_is(width: int) -> None:
    skills = [SkillOutcome(key, NIGHT, Outcome.FAILED, f"it is called {key!r}") for key in HOSTILE]
    skills += [SkillOutcome(key, NIGHT, Outcome.SKIPPED, REFUSED_KEY) for key in HOSTILE]
    items = [ItemsOutcome(key, NIGHT, Outcome.FAILED, "because") for key in HOSTILE]
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=False)
    table, reasons = night_table(skills, {}, {}, width)
    console.print(table)
    for line in [*reasons, *items_totals(items, {}, 1.0).split("\n")]:
        write_line(console, line)
    shown = stream.getvalue()
    assert [c for c in shown if not c.isprintable() and c != "\n"] == []
    assert [key for key in HOSTILE if shown_key(key).isascii() and shown_key(key) not in shown] == []
    rows = [line for line in shown.splitlines() if line.rstrip().endswith(("failed", "skipped"))]
    assert len(rows) == 2 * len(HOSTILE), "no id makes a line of its own"


@pytest.mark.parametrize("width", [80, 110, 150])
def test_each_skill_has_one_line_whatever_it_is_called(width: int) -> None:
    names = {
        "1": "分数の足し算と引き算をする練習問題の章その一",
        "2": "\t \u00a0",
        "3": "الكسور العشرية " * 9,
    }
    keys = [*names, "unit-12/fractions-and-decimals/" * 3, "分" * 70]
    skills = [SkillOutcome(key, NIGHT, Outcome.OVERTAKEN, attempts=1_234_567, students=9_999) for key in keys]
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    table, _ = night_table(skills, {}, names, width)
    console.print(table)
    rows = console.file.getvalue().splitlines()[1:]
    assert len(rows) == len(keys)
    assert [row for row in rows if cell_len(row) > width] == []
    assert rows[1].startswith("2 ")


@pytest.mark.parametrize(("form", "is_terminal"), [("csv", True), ("json", True), ("csv", False)])
def test_an_export_is_exact_in_a_pipe_and_harmless_on_a_terminal(form: str, is_terminal: bool) -> None:
    reading, writing = os.openpty() if is_terminal else os.pipe()
    if is_terminal:
        tty.setraw(writing)  # or the terminal would change the line ends
    rows = [{"skill_id": key} for key in HOSTILE if "\udce9" not in key]
    table = Exported({"skill_id": str}, rows)
    with ThreadPoolExecutor(1) as pool, os.fdopen(reading, "rb") as reader:
        shown_later = pool.submit(_all_of, reader)
        with os.fdopen(writing, "w", encoding="utf-8") as stream, redirect_stdout(stream):
            _print({"params": table, "items": table}, form)
        shown = shown_later.result().decode()
    if is_terminal:
        assert [c for c in shown if not c.isprintable() and c != "\n"] == []
        assert shown.count("\n") > len(rows)
    else:
        assert all(row["skill_id"] in shown for row in rows)


def _all_of(reader: BinaryIO) -> bytes:
    """What was written before the other end was closed, which a terminal reports as an error."""
    parts = []
    with suppress(OSError):
        while part := os.read(reader.fileno(), 4096):
            parts.append(part)
    return b"".join(parts)


def test_a_long_id_is_shortened() -> None:
    assert len(shown_key("x" * 2650)) <= 101
