"""Runs the commands and examples of the README and of deploy/*.md as written, and compares their tables with the code."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest
import yaml

from bkt_pipeline.calibration.check import Check
from bkt_pipeline.calibration.item_checks import ITEM_CHECKS
from bkt_pipeline.calibration.night_checks import NIGHT_CHECKS
from bkt_pipeline.calibration.skill_checks import SKILL_CHECKS
from bkt_pipeline.calibration.window_checks import WINDOW_CHECKS
from bkt_pipeline.cli.main import parser
from bkt_pipeline.db.database import open_database
from bkt_pipeline.db.doctor import CAN_RUN, diagnose
from bkt_pipeline.defs.component import BktCalibration
from bkt_pipeline.defs.resources import CalibrationSettings, ItemSettings
from bkt_pipeline.embedded import server as embedded
from bkt_pipeline.model import FLAGS, BktParams
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline.settings import default_of, variables
from bkt_pipeline_tests.conftest import PROJECT
from bkt_pipeline_tests.helpers import children
from bkt_pipeline_tests.helpers.answer_files import write_answers
from bkt_pipeline_tests.helpers.pages import fenced
from bkt_pipeline_tests.helpers.schools import enrol

DEPLOY = PROJECT / "deploy"
README = PROJECT / "README.md"
# test_operations.py runs the commands of deploy/README.md.
PAGES = [README, *(page for page in sorted(DEPLOY.glob("*.md")) if page.name != "README.md")]
BIN = Path(sys.executable).parent
VARIABLE = re.compile(r"^\| `[A-Z0-9_]+` \|.*$", re.MULTILINE)

COMMANDS = list(
    dict.fromkeys(line for page in PAGES for block in fenced(page, "sh") for line in block.splitlines())
)
# The two commands that create the virtual environment are run by .ci/run, which reads them from the README.
INSTALLING = [line for line in COMMANDS if line.startswith("python3 -m venv")]
SERVING = [line for line in COMMANDS if line.split("#")[0].strip().endswith("dagster dev -p 3000")]
ELSEWHERE = [line for line in COMMANDS if "DATABASE_URL=postgresql://" in line]
RUNNABLE = [line for line in COMMANDS if line not in [*INSTALLING, *SERVING, *ELSEWHERE]]


@pytest.fixture(scope="module")
def home(server_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With a small school of the skills that the README's commands name; .ci/run and test_main.py calibrate the synthetic
    one."""
    folder = server_home / "readme"
    answers = tmp_path_factory.mktemp("readme") / "answers.csv"
    rows = write_answers(answers).read_text()
    named = re.findall(r"--skill (\S+)", "\n".join(RUNNABLE))
    header = rows.splitlines()[0]
    answers.write_text(
        "\n".join(
            [header, *(rows.replace("sums,", f"{skill},").partition("\n")[2].strip() for skill in named)]
        )
    )
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    loaded = children.run("load", str(answers), environment={**keep, "BKT_PIPELINE_HOME": str(folder)})
    assert loaded.returncode == 0, loaded.stderr
    yield folder
    embedded.release(folder)


def shell(line: str, home: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        ["bash", "-c", line.replace(".venv/bin/", f"{BIN}/")],
        env={**keep, "BKT_PIPELINE_HOME": str(home), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_readme_opens_with_the_two_commands() -> None:
    assert COMMANDS[:2] == INSTALLING
    assert COMMANDS[0].endswith("&& .venv/bin/bkt-pipeline nightly")
    assert "[test]" in COMMANDS[1]
    assert "pytest" in COMMANDS[1]


@pytest.mark.parametrize("line", RUNNABLE)
def test_a_command_runs_as_written(line: str, home: Path, tmp_path: Path) -> None:
    ran = shell(line, home, tmp_path)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("line", ELSEWHERE)
def test_a_command_with_a_database_url_runs_on_that_database(
    line: str, home: Path, tmp_path: Path, platform
) -> None:
    enrol(platform, [20])
    ran = shell(re.sub(r"postgresql://\S+", shlex.quote(platform.url), line), home, tmp_path)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("line", SERVING)
def test_plain_dagster_dev_serves_the_clone(line: str, home: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    command = line.replace(".venv/bin/", f"{BIN}/").replace("3000", str(port))
    process = subprocess.Popen(
        ["bash", "-c", f"exec env {command}"],
        env={**keep, "BKT_PIPELINE_HOME": str(home)},
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert answers(f"http://127.0.0.1:{port}/server_info")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            # Dagster interrupts its children and waits for them, for ever if they inherited an ignored SIGINT.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(url: str) -> bool:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=10) as page:
                return bool(page.status == 200)
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            time.sleep(0.5)
    return False


def test_the_python_example_runs() -> None:
    (example,) = fenced(DEPLOY / "model.md", "python")
    ran = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("BktParams(p_l0=")


def test_the_backends_queries_run_as_written(make_platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = make_platform("text")
    monkeypatch.setenv("DATABASE_URL", platform.url)
    with psycopg.connect(platform.url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO skills VALUES ('fractions-add', true);"
            "CREATE TABLE student_skill_mastery (student_id text, skill_id text, p_known double precision);"
        )
        open_database().close()
        for query in fenced(README, "sql"):
            assert len(connection.execute(query.encode()).fetchall()) == 1


def test_the_views_adapt_a_platform_with_other_names(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (views,) = fenced(DEPLOY / "database.md", "sql")
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE topics (code text PRIMARY KEY, retired_at date); INSERT INTO topics VALUES ('halves');"
            "CREATE TABLE questions (qid bigint PRIMARY KEY, topic text);"
            "CREATE TABLE responses (rid bigint PRIMARY KEY, user_id uuid, question_id bigint, score int,"
            " answered_at timestamptz);"
        )
        connection.execute(views.encode())
    monkeypatch.setenv("DATABASE_URL", empty_database)
    found = diagnose()
    assert found.exit_code == CAN_RUN, found.lines


def test_the_defs_yaml_has_attributes_of_the_component() -> None:
    (text,) = fenced(DEPLOY / "dagster.md", "yaml")
    declared = yaml.safe_load(text)
    assert declared["type"] == "bkt_pipeline.BktCalibration"
    assert set(declared["attributes"]) <= set(BktCalibration.model_fields)
    assert set(declared["attributes"]["items"]) <= set(ItemSettings.model_fields)


def test_the_example_of_a_test_passes(platform, night) -> None:
    (example,) = fenced(PROJECT / ".github/CONTRIBUTING.md", "python")
    names = {"enrol": enrol}
    exec(example, names)
    names["test_a_night_calibrates_every_skill"](platform, night)


# What a notebook must not load.
ONLY_PANDAS = """
import sys
loaded = {"dagster", "sqlalchemy", "psycopg", "psycopg2", "bkt_pipeline.db", "bkt_pipeline.settings"} & set(sys.modules)
assert not loaded, loaded
"""


def test_the_notebook_example_goes_from_a_file_to_two_plots(tmp_path: Path) -> None:
    (example,) = fenced(README, "python")
    assert len(example.splitlines()) < 15
    truth = BktParams(0.3, 0.15, 0.1, 0.2)
    window = simulate(truth, n_students=60, seed=1, lengths=6)
    columns = {
        "student_id": np.repeat(window.student_ids, 6),
        "is_correct": window.responses,
        "created_at": pd.to_datetime(window.answered_at, unit="us", utc=True),
    }
    pd.DataFrame(columns).assign(skill_id="fractions-add").to_csv(tmp_path / "answers.csv", index=False)
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{example}{ONLY_PANDAS}"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"^fractions-add +0\.\d+ +0\.\d+ +0\.\d+ +60", ran.stdout, re.MULTILINE), ran.stdout
    assert re.search(r"^pooled +-0\.\d+", ran.stdout, re.MULTILINE), ran.stdout
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def subcommands() -> dict[str, str]:
    top = parser()
    (action,) = [action for action in top._actions if action.dest == "command"]
    return {name: sub.format_help() for name, sub in action.choices.items()}


def test_every_command_is_in_the_readme_and_has_help() -> None:
    for name, text in subcommands().items():
        assert f"`bkt-pipeline {name}" in README.read_text(), name
        assert len(text.split()) > 30, name


def test_the_tables_of_variables_match_the_settings() -> None:
    table = [
        f"| `{name}` | {field.description} | {default_of(field)} |" for name, field in variables().items()
    ]
    assert VARIABLE.findall((DEPLOY / "settings.md").read_text()) == table
    most_needed = VARIABLE.findall(README.read_text())
    assert len(most_needed) >= 6
    assert set(most_needed) <= set(table)


@pytest.mark.parametrize(
    "check", [*SKILL_CHECKS, *WINDOW_CHECKS, *ITEM_CHECKS, *NIGHT_CHECKS], ids=lambda c: c.name
)
def test_every_check_is_on_its_page_as_it_describes_itself(check: Check) -> None:
    row = f"`{check.name}` | {'error' if check.error else 'warning'} | {check.description} | {check.what_to_do} |"
    assert row in (DEPLOY / "checks.md").read_text()


@pytest.mark.parametrize(
    ("resource", "kind"), [("settings", CalibrationSettings), ("item_settings", ItemSettings)]
)
def test_every_setting_of_the_launchpad_is_on_the_page_of_settings(
    resource: str, kind: type[CalibrationSettings]
) -> None:
    for name, field in kind.model_fields.items():
        assert f"| `{resource}` | `{name}` | {field.description} |" in (DEPLOY / "settings.md").read_text(), (
            name
        )


def test_every_flag_is_on_the_page_of_the_model() -> None:
    for name, meaning in FLAGS.items():
        assert f"| `{name}` | {meaning} |" in (DEPLOY / "model.md").read_text()


def test_the_readme_leads_to_every_page_beside_it() -> None:
    for page in [*PAGES[1:], DEPLOY / "README.md", PROJECT / "benchmarks/README.md"]:
        assert f"({page.relative_to(PROJECT)})" in README.read_text()
