"""What a night cannot use is refused in one line with exit code 2, before anything is created."""

import os
import subprocess
from pathlib import Path

import psycopg
import pytest

from bkt_pipeline_tests.helpers import children
from bkt_pipeline_tests.helpers.sources import create

pytestmark = pytest.mark.slow

PARAMETERS = "p_l0 float8, p_transit float8, p_slip float8, p_guess float8, log_likelihood float8"
REFUSED = {
    "another program's Alembic": (
        "CREATE TABLE alembic_version (version_num varchar(32)); INSERT INTO alembic_version VALUES ('1f2e3d4c5b6a')",
        "alembic_version is not Dagster's",
    ),
    "a history as target": (
        f"CREATE TABLE skill_bkt_params (skill_id text, {PARAMETERS}, calibrated_at timestamptz,"
        " PRIMARY KEY (skill_id, calibrated_at))",
        "no unique index on skill_id alone",
    ),
    "a partial unique index": (
        f"CREATE TABLE skill_bkt_params (skill_id text, {PARAMETERS}, calibrated_at timestamptz);"
        "CREATE UNIQUE INDEX ON skill_bkt_params (skill_id) WHERE p_l0 > 0",
        "no unique index on skill_id alone",
    ),
    "a table without answers": ("ALTER TABLE attempts DROP COLUMN is_correct", "is_correct"),
}


def relations(url: str) -> list[tuple[str, str]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT relnamespace::regnamespace::text, relname FROM pg_class"
            " WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema)' ORDER BY 1, 2"
        ).fetchall()


def run(url: str, home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    urls = {"DATABASE_URL": url, "DAGSTER_POSTGRES_URL": url}
    return children.run(*command, environment={**keep, **urls, "BKT_PIPELINE_HOME": str(home)})


@pytest.mark.parametrize("kind", REFUSED)
def test_a_night_that_cannot_run_creates_nothing(empty_database: str, tmp_path: Path, kind: str) -> None:
    statements, reason = REFUSED[kind]
    create(empty_database, after=statements)
    before = relations(empty_database)
    done = run(empty_database, tmp_path, "nightly", "--skip-irt")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert reason in done.stderr
    assert done.stdout == ""
    assert relations(empty_database) == before


def test_doctor_names_what_is_in_the_way_of_dagsters_storage(empty_database: str, tmp_path: Path) -> None:
    statements, reason = REFUSED["another program's Alembic"]
    create(empty_database, after=statements)
    done = run(empty_database, tmp_path, "doctor")
    assert done.returncode == 1, done.stderr
    assert any(line.startswith("fails") and reason in line for line in done.stdout.splitlines())
