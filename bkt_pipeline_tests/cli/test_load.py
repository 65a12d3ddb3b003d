"""The command `load`: files as people have them, to a calibrated table."""

import csv
import datetime as dt
import gzip
import json
import random
import re
import shlex
import string
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from bkt_pipeline_tests.conftest import PROJECT, Platform
from bkt_pipeline_tests.helpers.answer_files import write_answers
from bkt_pipeline_tests.helpers.nights import Night
from bkt_pipeline_tests.helpers.pages import fenced

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]

DATASHOP = [
    *("Row", "Sample Name", "Transaction Id", "Anon Student Id", "Session Id", "Time", "Time Zone"),
    *(
        "Student Response Type",
        "Tutor Response Type",
        "Level (Unit)",
        "Problem Name",
        "Problem View",
        "Step Name",
    ),
    *("Attempt At Step", "Is Last Attempt", "Outcome", "Selection", "Action", "Input", "Feedback Text"),
    *("KC (Default)", "KC Category (Default)", "KC (Default)", "KC Category (Default)", "School", "Class"),
]
ASSISTMENTS = [
    *("order_id", "assignment_id", "user_id", "assistment_id", "problem_id", "original", "correct"),
    *(
        "attempt_count",
        "ms_first_response",
        "tutor_mode",
        "answer_type",
        "skill_id",
        "skill_name",
        "opportunity",
    ),
]


def write_datashop_export(path: Path) -> None:
    """Sixty students at four steps, some with a hint first; one step has two skills and one has none."""
    rows = []
    for number in range(60 * 4):
        student, step = divmod(number, 4)
        at = dt.datetime(2006, 9, 1, 8) + dt.timedelta(minutes=number)
        skills = [("Add", ""), ("Add", "Carry"), ("Carry", ""), ("", "")][step]
        outcomes = ["HINT", "INCORRECT", "CORRECT"] if number % 8 == 0 else ["CORRECT"]
        for attempt, outcome in enumerate(outcomes, start=1):
            values = {
                "Row": len(rows) + 1,
                "Anon Student Id": f"Stu_{student:03}",
                "Time": f"{at + dt.timedelta(seconds=attempt):%Y-%m-%d %H:%M:%S}.0",
                "Time Zone": "US/Eastern",
                "Problem Name": "WATER, PART 1",
                "Step Name": f"step{step}",
                "Attempt At Step": attempt,
                "Outcome": outcome,
                "Input": '"',
            }
            row = [values.get(name, "") for name in DATASHOP]
            row[DATASHOP.index("KC (Default)")], row[DATASHOP.index("KC (Default)") + 2] = skills
            rows.append(row)
    path.write_text("\n".join("\t".join(map(str, row)) for row in [DATASHOP, *rows]) + "\n")


def write_assistments_file(path: Path) -> None:
    """Sixty students at five problems: one has two skills, one has none, one is scaffolding; a row is repeated."""
    rows = []
    for number in range(60 * 5):
        student, problem = divmod(number, 5)
        skills = [
            ["Area Rectangle"],
            ["Area Rectangle", "Proportion²"],
            ["Proportion²"],
            [""],
            ["Proportion²"],
        ]
        for skill in skills[problem]:
            values = {
                "order_id": 33_000_000 + 7 * number,
                "user_id": 70_000 + student,
                "problem_id": 51_000 + problem,
                "original": int(problem != 4),
                "correct": int(number % 3 > 0),
                "skill_name": skill,
            }
            rows.append([values.get(name, "") for name in ASSISTMENTS])
    with path.open("w", newline="", encoding="latin-1") as file:
        csv.writer(file).writerows([ASSISTMENTS, *rows, rows[0]])


def commands_on_the_page(file: str) -> list[list[str]]:
    """The two commands of the page that load this file, without the program's name."""
    (block,) = [found for found in fenced(PROJECT / "deploy/load.md", "text") if file in found]
    lines = block.replace("\\\n", " ").splitlines()
    assert [line.split()[:2] for line in lines] == [["bkt-pipeline", "load"], ["bkt-pipeline", "nightly"]]
    return [shlex.split(line)[1:] for line in lines]


def attempts_by_skill(night: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """The calibrated skills of a night's table, with their attempts."""
    assert night.returncode == 0, night.stderr
    rows = re.findall(r"^(\S.*?)\s{2,}(\d+) .*calibrated\s*$", night.stdout, re.MULTILINE)
    return {skill: int(attempts) for skill, attempts in rows}


@pytest.fixture
def storage(make_night: Callable[[Platform], Night], empty_database: str) -> dict[str, str]:
    """An empty database, and Dagster's storage with its tables, which take seconds to create."""
    return make_night(Platform(empty_database, "text", "timestamptz")).environment


def test_a_datashop_export_comes_to_a_calibrated_table(
    run: Run, storage: dict[str, str], tmp_path: Path
) -> None:
    load, nightly = commands_on_the_page("transactions.txt")
    write_datashop_export(tmp_path / "transactions.txt")
    loaded = run(*load, cwd=tmp_path, **storage)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith("loaded 240 attempts of 2 skills")
    assert "rows left out: 60 whose Attempt At Step is not 1, 60 without a skill\n" in loaded.stdout
    assert attempts_by_skill(run(*nightly, **storage)) == {"Add": 120, "Carry": 120}


def test_an_assistments_file_comes_to_a_calibrated_table(
    run: Run, storage: dict[str, str], tmp_path: Path
) -> None:
    load, nightly = commands_on_the_page("skill_builder_data.csv")
    write_assistments_file(tmp_path / "skill_builder_data.csv")
    loaded = run(*load, cwd=tmp_path, **storage)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith("loaded 240 attempts of 2 skills")
    left_out = "60 whose original is not 1, 60 without a skill, 1 exact repeat"
    assert f"rows left out: {left_out}\n" in loaded.stdout
    assert attempts_by_skill(run(*nightly, **storage)) == {"Area Rectangle": 120, "Proportion²": 120}


def test_a_loaded_file_takes_the_place_of_the_school_and_later_of_an_earlier_file(
    run: Run, tmp_path: Path
) -> None:
    assert run("doctor").returncode == 0
    loaded = run("load", str(write_answers(tmp_path / "answers.csv")))
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith("loaded 80 attempts of 1 skill in")
    night = run("nightly", "--skip-irt", "--json", str(tmp_path / "night.json"))
    assert night.returncode == 0, night.stderr
    assert json.loads((tmp_path / "night.json").read_text())["count"] == 1

    other = write_answers(tmp_path / "other.csv")
    other.write_text(other.read_text().replace("sums,", "wait...what,"))
    twice = run("load", str(other))
    assert twice.returncode == 2
    assert "holds rows already" in twice.stderr
    assert "--replace" in twice.stderr
    replaced = run("load", str(other), "--replace")
    assert replaced.returncode == 0, replaced.stderr
    assert 'skill ids changed: 1; "..." became one character' in replaced.stdout
    night = run("nightly", "--skip-irt", "--json", "-")
    assert night.returncode == 0, night.stderr
    assert list(json.loads(night.stdout)["calibrated_skills"]) == ["wait…what"]


def test_answers_of_long_ago_are_reported_with_the_as_of_that_finds_them(
    run: Run, storage: dict[str, str], tmp_path: Path
) -> None:
    path = write_answers(tmp_path / "answers.csv")
    header, *rows = path.read_text().splitlines()
    dated = [f"{row.rsplit(',', 1)[0]},2012-03-20T10:00:{n % 60:02}Z" for n, row in enumerate(rows)]
    path.write_text("\n".join([header.replace("order", "created_at"), *dated]))
    loaded = run("load", str(path), **storage)
    assert loaded.returncode == 0, loaded.stderr
    assert "older than the 30-day window" in loaded.stdout
    assert "it finds 80 of 80" in loaded.stdout
    (command,) = re.findall(r"next: bkt-pipeline (.*)", loaded.stdout)
    assert command == "nightly --as-of 2012-03-21"
    assert attempts_by_skill(run(*command.split(), "--skip-irt", **storage)) == {"sums": 80}


def test_answers_without_dates_stay_in_the_window_for_weeks(
    run: Run, empty_database: str, tmp_path: Path
) -> None:
    path = write_answers(tmp_path / "answers.csv")
    path.write_text(re.sub(r",(\d+)$", r",\g<1>00000", path.read_text(), flags=re.MULTILINE))
    loaded = run("load", str(path), DATABASE_URL=empty_database)
    assert loaded.returncode == 0, loaded.stderr
    (until,) = re.findall(r"30-day window until (\S+ \S+) UTC", loaded.stdout)
    with psycopg.connect(empty_database) as connection:
        (left,) = connection.execute(
            "SELECT count(*) FROM attempts WHERE created_at > %s::timestamptz - interval '30 days'",
            [f"{until} UTC"],
        ).fetchone()
    assert left == 80
    now = dt.datetime.now(dt.UTC)
    assert (
        now + dt.timedelta(days=28)
        < dt.datetime.fromisoformat(f"{until}+00:00")
        < now + dt.timedelta(days=30)
    )


def test_a_pipe_and_a_gzipped_file_load_too(run: Run, empty_database: str, tmp_path: Path) -> None:
    content = write_answers(tmp_path / "answers.csv").read_text()
    packed = tmp_path / "answers.csv.gz"
    packed.write_bytes(gzip.compress(content.encode()))
    for file in ("-", "/dev/stdin", str(packed)):
        loaded = run("load", file, "--replace", stdin=content, DATABASE_URL=empty_database)
        assert loaded.returncode == 0, loaded.stderr
        assert loaded.stdout.startswith("loaded 80 attempts")


def test_the_longest_ids_that_load_takes_are_calibrated(
    run: Run, storage: dict[str, str], tmp_path: Path
) -> None:
    # Random, because Postgres compresses what it can before it looks at the length.
    skill = "".join(random.Random(1).choices(string.ascii_letters, k=2_500))
    path = write_answers(tmp_path / "answers.csv")
    path.write_text(path.read_text().replace("sums,", f"{skill},"))
    loaded = run("load", str(path), **storage)
    assert loaded.returncode == 0, loaded.stderr
    night = run("nightly", "--json", "-", **storage)
    assert night.returncode == 0, night.stderr
    assert list(json.loads(night.stdout)["calibrated_skills"]) == [skill]


def test_bad_rows_are_refused_by_line(run: Run, empty_database: str, tmp_path: Path) -> None:
    path = write_answers(tmp_path / "answers.csv")
    path.write_text(path.read_text().replace(",1,3\n", ",maybe,3\n"))
    refused = run("load", str(path), DATABASE_URL=empty_database)
    assert refused.returncode == 2
    assert "line 5" in refused.stderr
    assert "pupil" not in refused.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--column", "skill=KC"], "no column 'skill' to fill"),
        (["--column", "skill_id"], "--column 'skill_id' has the wrong form"),
        (["--column", "skill_id=a", "--column", "skill_id=b"], "given twice"),
        (["--only", "original"], "--only 'original' has the wrong form"),
        (["--encoding", "none"], "--encoding is 'none'"),
        (["--delimiter", "::"], "--delimiter is '::'"),
    ],
)
def test_options_that_are_not_usable_are_refused(
    run: Run, tmp_path: Path, options: list[str], message: str
) -> None:
    refused = run("load", str(write_answers(tmp_path / "answers.csv")), *options)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
