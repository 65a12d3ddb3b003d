"""The command line, as a person or a cron job runs it: in a process of its own."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.answer_files import write_answers
from bkt_pipeline_tests.helpers.glops import FILE, needs_glops
from bkt_pipeline_tests.helpers.nights import Night
from bkt_pipeline_tests.helpers.schools import enrol

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_bare_machine_calibrates_the_synthetic_school(run: Run) -> None:
    first = run("nightly")
    assert first.returncode == 0, first.stderr
    assert "loaded a synthetic school of 65 skills" in first.stderr
    rows = first.stdout.splitlines()
    assert rows[0].split() == [
        "skill",
        "name",
        "attempts",
        "students",
        "p_l0",
        "p_transit",
        "p_slip",
        "p_guess",
        "ll/attempt",
        "status",
    ]
    assert sum(row.endswith("calibrated") for row in (row.rstrip() for row in rows)) == 60
    assert sum(row.rstrip().endswith(" skipped") for row in rows) == 4
    assert any(row.startswith("skipped, fewer than 50 graded attempts in 30 days: ") for row in rows)
    assert any(row.startswith("64 skills: 60 calibrated, 4 skipped") for row in rows)
    (items,) = [row for row in rows if " items: " in row]
    assert re.match(r"\d+ items: \d+ calibrated, \d+ provisional, \d+ skipped; 114,295 attempts", items)
    assert "dagster" not in first.stderr.lower(), "Dagster's own log drowns ours"

    again = run("nightly", "--skill", "fractions-add", "--skill", "ratios-share", "--json", "-")
    assert again.returncode == 0, again.stderr
    result = json.loads(again.stdout)
    assert result["count"] == 2
    assert set(result["calibrated_skills"]) == {"fractions-add", "ratios-share"}
    assert set(result["calibrated_skills"]["ratios-share"]) == {
        "p_l0",
        "p_transit",
        "p_slip",
        "p_guess",
        "log_likelihood",
    }

    report = run("doctor")
    assert report.returncode == 0, report.stderr
    assert "64 active of 65" in report.stdout
    assert "embedded" in report.stdout


@needs_glops
def test_real_answers_come_to_the_known_likelihood(run: Run) -> None:
    assert run("load", str(FILE)).returncode == 0
    night = run("nightly", "--json", "-")
    assert night.returncode == 0, night.stderr
    result = json.loads(night.stdout)
    assert result["count"] == 42
    total = sum(skill["log_likelihood"] for skill in result["calibrated_skills"].values())
    assert total == pytest.approx(-42_823.9, abs=0.05)


def test_without_a_database_there_is_one_clear_line(run: Run, tmp_path: Path) -> None:
    url = f"postgresql://someone:hidden-word@/nothing?host={tmp_path}"
    for command in (["nightly"], ["doctor"], ["load", str(write_answers(tmp_path / "a.csv"))]):
        failed = run(*command, DATABASE_URL=url, BKT_RETRY_SECONDS="0")
        assert failed.returncode == 2, command
        assert failed.stdout == ""
        assert len(failed.stderr.strip().splitlines()) == 1, failed.stderr
        assert "hidden-word" not in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nightly", "--as-of", "tomorrow"], "'tomorrow' is not an ISO 8601 time"),
        (["nightly", "--skill", "no-such-skill"], "no-such-skill"),
        (["load", "/no/such/file.csv"], "/no/such/file.csv"),
        (["nothing"], "nothing"),
    ],
)
def test_wrong_usage_is_reported_and_exits_with_2(
    run: Run, make_night: Callable[[Platform], Night], platform: Platform, arguments: list[str], says: str
) -> None:
    enrol(platform, [1])
    failed = run(*arguments, **make_night(platform).environment)
    assert failed.returncode == 2
    assert says in failed.stderr
    assert "Traceback" not in failed.stderr
