"""The command `nightly` with broken streams, files and settings, and interrupted: output never costs a result."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from bkt_pipeline.cli.main import main
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.nights import AS_OF, Night
from bkt_pipeline_tests.helpers.processes import COMMAND
from bkt_pipeline_tests.helpers.schools import enrol, stored

FULL = Path("/dev/full")


def nightly(
    night: Night, *arguments: str, redirect: str = "", **environment: str
) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own, started by a shell that redirects its streams."""
    return subprocess.run(
        [
            "bash",
            "-o",
            "pipefail",
            "-c",
            f'"$@" {redirect}',
            "bash",
            *COMMAND,
            "nightly",
            "--skip-irt",
            *arguments,
        ],
        env=os.environ | night.environment | environment,
        capture_output=True,
        text=True,
        errors="replace",
    )


@pytest.fixture
def night(platform: Platform, make_night: Callable[[Platform], Night]) -> Night:
    enrol(platform, [20, 3])
    return make_night(platform)


def outcomes(url: str) -> dict[str, str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT skill_id, outcome FROM bkt_pipeline.night_skills").fetchall()
    return dict(rows)


@pytest.mark.parametrize(
    ("redirect", "encoding"),
    [
        (">&- 2>&- <&-", ""),
        pytest.param(
            ">/dev/full 2>/dev/full", "", marks=pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
        ),
        ("| head -c 1 >&2", "latin-1"),
    ],
)
def test_a_broken_stream_costs_the_night_nothing(night: Night, redirect: str, encoding: str) -> None:
    """A skill's name that Rich would take for markup, and that Latin-1 does not have, is no obstacle either."""
    with psycopg.connect(night.url) as connection:
        connection.execute("ALTER TABLE skills ALTER id DROP DEFAULT")
        for table, column in (("items", "skill_id"), ("skills", "id")):
            connection.execute("ALTER TABLE items DROP CONSTRAINT IF EXISTS items_skill_id_fkey")
            connection.execute(
                f"ALTER TABLE {table} ALTER {column} TYPE text USING {column}::text || '\\[/]Σ'"
            )
    done = nightly(
        night, "--as-of", AS_OF, redirect=redirect, **{"PYTHONIOENCODING": encoding} if encoding else {}
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
    assert sorted(outcomes(night.url).values()) == ["calibrated", "skipped"]


def test_a_json_file_is_whole_and_an_unwritable_path_fails_before_the_night(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in night.environment.items():
        monkeypatch.setenv(name, value)
    command = ["nightly", "--skip-irt", "--as-of", AS_OF, "--json"]
    for path in (tmp_path / "missing" / "night.json", tmp_path):
        assert main([*command, str(path)]) == 2
        assert len(capfd.readouterr().err.splitlines()) == 1
        with psycopg.connect(night.url) as connection:
            assert connection.execute("SELECT to_regclass('bkt_pipeline.night_skills')").fetchone() == (None,)
    file = tmp_path / "night.json"
    file.write_text("earlier")
    assert main([*command, str(file)]) == 0
    assert json.loads(file.read_text())["count"] == 1
    assert list(tmp_path.glob(".night.json*")) == []


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--as-of", "9999-12-31T23:59-12:00"], {}),
        (["--as-of", "9999-12-31T23:59:59Z"], {}),
        (["--as-of", "0001-01-01"], {}),
        (["--as-of", "0001-01-01T00:00+12:00"], {}),
        (["--as-of", "never"], {}),
        (["--window-days", "0"], {}),
        ([], {"DAGSTER_HOME": "", "BKT_PIPELINE_HOME": "/proc/nowhere"}),
        ([], {"BKT_WINDOW_DAYS": "many"}),
    ],
)
def test_a_failure_is_one_line(
    night: Night,
    arguments: list[str],
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in (night.environment | environment).items():
        monkeypatch.setenv(name, value)
    assert main(["nightly", "--skip-irt", *arguments]) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_settings_of_the_role_change_nothing(night: Night) -> None:
    """They decide how Postgres prints dates, numbers and bytes."""
    with psycopg.connect(night.url, autocommit=True) as connection:
        for setting in (
            "DateStyle = 'SQL, DMY'",
            "IntervalStyle = 'sql_standard'",
            "extra_float_digits = -15",
            "bytea_output = 'escape'",
            "TimeZone = 'Asia/Kathmandu'",
        ):
            connection.execute(f"ALTER ROLE CURRENT_USER SET {setting}")
        try:
            code, output = night.ends(night.start("--skip-irt"))
        finally:
            connection.execute("ALTER ROLE CURRENT_USER RESET ALL")
    assert code == 0, output
    assert sorted(outcomes(night.url).values()) == ["calibrated", "skipped"]


SKILLS = 12
STAGES = {
    "before the first run": "SELECT count(*) > 1 FROM pg_stat_activity WHERE datname = current_database()",
    "once its tables are there": "SELECT to_regclass('bkt_pipeline.night_skills') IS NOT NULL",
    "once a window is stored": "SELECT count(*) > 0 FROM bkt_pipeline.attempt_windows",
    "once a skill is published": "SELECT count(*) > 0 FROM bkt_pipeline.published_params",
}


@pytest.mark.parametrize(
    ("number", "stage"),
    [
        (signal.SIGINT, "before the first run"),
        (signal.SIGTERM, "once its tables are there"),
        (signal.SIGINT, "once a window is stored"),
        (signal.SIGTERM, "once a skill is published"),
    ],
)
def test_a_signal_ends_the_night_and_keeps_what_was_stored(
    platform: Platform, make_night: Callable[[Platform], Night], number: signal.Signals, stage: str
) -> None:
    enrol(platform, [20] * SKILLS)
    night = make_night(platform)
    child = night.start()
    with psycopg.connect(night.url, autocommit=True) as connection:
        while child.is_alive():
            try:
                if connection.execute(STAGES[stage]).fetchone() == (True,):
                    break
            except psycopg.errors.UndefinedTable:
                pass
            time.sleep(0.01)
        os.kill(child.pid, number)
    code, output = night.ends(child, 60)
    assert code == 130, output
    assert "interrupted; everything stored so far is kept" in output
    assert "Traceback" not in output
    found = outcomes(night.url) if "tables" not in stage and "first" not in stage else {}
    assert set(found.values()) <= {"calibrated"}
    kept = stored(Platform(night.url, "uuid", "timestamptz")) if found else {}
    assert kept.keys() == found.keys()
    assert night.ends(night.start("--skip-irt"))[0] == 0
    assert list(outcomes(night.url).values()) == ["calibrated"] * SKILLS
