"""Neither a successful nor a failed night reveals a password or a student's id."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from bkt_pipeline.cli.main import main
from bkt_pipeline_tests.conftest import PROJECT, Platform
from bkt_pipeline_tests.helpers.nights import Night
from bkt_pipeline_tests.helpers.processes import COMMAND, PROC, ProcessList
from bkt_pipeline_tests.helpers.secrets import PASSWORD, secret

MakeNight = Callable[[Platform], Night]
STUDENT = "student-zoe-{:03}"
NAME = "-zoe-"  # the three letters alone may occur in the base64 of a picture


@pytest.fixture
def school(make_platform: Callable[..., Platform]) -> Platform:
    """A platform with unmistakable student ids; one answer cannot be stored."""
    platform = make_platform("text")
    with psycopg.connect(platform.url) as connection:
        for skill in ("adding", "dividing"):
            connection.execute("INSERT INTO skills (id, active) VALUES (%s, true)", [skill])
            connection.execute("INSERT INTO items VALUES (%s, %s)", [skill, skill])
            for student in range(20):
                connection.execute(
                    "INSERT INTO attempts (student_id, item_id, is_correct, created_at)"
                    " SELECT %s, %s, (n + %s) %% 3 > 0, timestamptz '2025-12-30' + n * interval '1 minute'"
                    " FROM generate_series(1, 5) n",
                    [STUDENT.format(student), skill, student],
                )
    return platform


def everything(night: Night, *more: str) -> str:
    """Everything that a night writes, except the stored windows, which may contain student ids."""
    texts = [night.output.read_text(), *more]
    for url, schema in ((night.environment["DAGSTER_POSTGRES_URL"], "public"), (night.url, "bkt_pipeline")):
        with psycopg.connect(url) as connection:
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename <> 'attempt_window'",
                [schema],
            ).fetchall()
            for (table,) in tables:
                query = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, table))
                texts += [row for (row,) in connection.execute(query)]
    for path in Path(night.environment["DAGSTER_HOME"]).rglob("*"):
        if path.is_file():
            texts.append(path.read_text(errors="replace"))
    return "\n".join(texts)


def test_a_successful_night_reveals_no_secret(
    school: Platform, make_night: MakeNight, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    night = make_night(school)
    night.environment |= {
        name: secret(night.environment[name]) for name in ("DATABASE_URL", "DAGSTER_POSTGRES_URL")
    }
    code, output = night.ends(night.start("--verbose", "--json", str(tmp_path / "result.json")))
    assert code == 0, output
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", night.environment["DATABASE_URL"])
        assert main(["doctor"]) == 0
        assert main(["rollback", "--night", "2026-01-01"]) == 0
        assert main(["prune"]) == 0
    texts = everything(night, (tmp_path / "result.json").read_text(), *capfd.readouterr())
    assert "dividing" in texts
    assert PASSWORD not in texts
    assert NAME not in texts


@pytest.mark.parametrize(
    "fault",
    [
        # The database's message for each of these quotes the row, partly or completely.
        "ALTER TABLE bkt_pipeline.attempt_window ADD CHECK (student_id <> 'student-zoe-007')",
        "CREATE UNIQUE INDEX ON bkt_pipeline.attempt_window (student_id)",
        "ALTER TABLE bkt_pipeline.attempt_window ALTER student_id TYPE varchar(3)",
        "ALTER TABLE bkt_pipeline.attempt_window ALTER student_id TYPE bigint USING 0",
        "ALTER TABLE skill_bkt_params ADD CHECK (p_l0 > 1)",
        "ALTER TABLE attempts RENAME created_at TO made_at",
        "ALTER TABLE attempts ALTER is_correct TYPE text",
        "DROP TABLE bkt_pipeline.skill_fits CASCADE",
    ],
)
def test_a_failed_night_reveals_no_secret(school: Platform, make_night: MakeNight, fault: str) -> None:
    night = make_night(school)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", night.url)
        assert main(["migrate"]) == 0
    with psycopg.connect(night.url) as connection:
        connection.execute(fault)
    night.environment |= {
        name: secret(night.environment[name]) for name in ("DATABASE_URL", "DAGSTER_POSTGRES_URL")
    }
    code, output = night.ends(night.start("--verbose"))
    assert code in (1, 2), output
    texts = everything(night)
    assert PASSWORD not in texts
    assert NAME not in texts


@pytest.mark.skipif(not PROC.exists(), reason="no /proc to read other processes' command lines from")
def test_no_process_shows_the_password(school: Platform, make_night: MakeNight) -> None:
    """Runs a night that stores one skill and fails at another, as typed on the command line, and doctor."""
    night = make_night(school)
    night.environment |= {
        name: secret(night.environment[name]) for name in ("DATABASE_URL", "DAGSTER_POSTGRES_URL")
    }
    environment = {**os.environ, **night.environment, "PYTHONPATH": str(PROJECT)}
    nightly = ["nightly", "--as-of", "2026-01-01T07:00:00Z"]
    with ProcessList() as processes:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in night.environment.items():
                patch.setenv(name, value)
            assert main(["migrate"]) == 0
            main(["doctor"])
        with psycopg.connect(night.url) as connection:
            connection.execute("ALTER TABLE skill_bkt_params ADD CHECK (skill_id <> 'adding')")
        assert subprocess.run([*COMMAND, *nightly], env=environment, capture_output=True).returncode == 1
    assert any("2026-01-01T07:00:00Z" in line for line in processes.seen), "the night's process was not seen"
    assert [line for line in processes.seen if PASSWORD in line] == []


DOWN = [
    f"postgresql://u:{PASSWORD}@127.0.0.1:1/x",
    f"postgresql://u:{PASSWORD}#x@127.0.0.1:1/x",
    f"postgresql://u:x?{PASSWORD}@127.0.0.1:1/x",
    f"host=127.0.0.1 port=1 dbname=x user=u password={PASSWORD}",
]
MISREAD = [
    f"postgresql://u:{PASSWORD}@127.0.0.1:port/x",
    f"postgresql://u:{PASSWORD}@h@127.0.0.1:1/x",
    f"postgresql://u:{PASSWORD}/x@127.0.0.1:1/x",
    f"postgresql://u:1/{PASSWORD}@127.0.0.1:1/x",
    f"postgresql://u:x@{PASSWORD}@127.0.0.1:1/x",
    f"postgresql://u:{PASSWORD}%zz@127.0.0.1:1/x",
    f"postgresql://u:{PASSWORD}@[127.0.0.1:1/x",
    f"postgresql://u:{PASSWORD}@127.0.0.1:1/x?nonsense=1",
    f"host=127.0.0.1 port=1 password='{PASSWORD}",
    f"{PASSWORD}",
    f"mysql://u:{PASSWORD}@127.0.0.1/x",
]


@pytest.mark.parametrize(
    ("variable", "url"),
    [("DATABASE_URL", url) for url in DOWN + MISREAD] + [("DAGSTER_POSTGRES_URL", url) for url in MISREAD],
)
def test_a_url_that_does_not_work_is_not_quoted(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    platform: Platform,
    tmp_path: Path,
    variable: str,
    url: str,
) -> None:
    monkeypatch.setenv("BKT_PIPELINE_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", platform.url)
    monkeypatch.setenv("BKT_RETRY_SECONDS", "0")
    monkeypatch.setenv(variable, url)
    for command in ("nightly", "doctor") if variable == "DATABASE_URL" else ("nightly",):
        assert main([command]) == 2
        out, err = capfd.readouterr()
        assert err.startswith(f"bkt-pipeline {command}: ")
        assert err.count("\n") == 1
        for part in PASSWORD.split("-"):
            assert part not in out + err
