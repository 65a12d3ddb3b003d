"""A database with another program's tables is refused for Dagster's storage, and nothing is created in it."""

import re

import dagster as dg
import psycopg
import pytest

from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.instance.storage import check_storage, dagster_instance, use_dagster_home

VERSION = "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"
OTHERS = {
    "alembic_version": ";".join([VERSION, "INSERT INTO alembic_version VALUES ('0123456789ab')"]),
    "alembic_version ": VERSION,  # without a revision, as after a downgrade to the beginning
    "alembic_version  ": ";".join([VERSION, "CREATE TABLE skills (id int)"]),
    "runs": "CREATE TABLE runs (id int, distance float8)",
    "jobs": "CREATE TABLE jobs (id int, title text)",
    "event_logs": VERSION + "; CREATE VIEW event_logs AS SELECT 1 AS id",
}


def relations(url: str) -> list[tuple[str, str]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT relnamespace::regnamespace::text, relname FROM pg_class"
            " WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema)' ORDER BY 1, 2"
        ).fetchall()


@pytest.mark.parametrize("table", OTHERS)
def test_another_programs_tables_are_refused(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    with psycopg.connect(empty_database) as connection:
        connection.execute(OTHERS[table])
    before = relations(empty_database)
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", empty_database)
    with pytest.raises(
        InvalidSettings, match=rf"table {table.strip()} is not Dagster's.*CREATE DATABASE"
    ) as error:
        check_storage()
    assert "\n" not in str(error.value)
    with pytest.raises(InvalidSettings, match=re.escape(str(error.value))), dagster_instance():
        pass
    assert relations(empty_database) == before


def test_a_revision_of_another_program_beside_dagsters_tables_is_refused(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(empty_database) as connection:
        connection.execute(OTHERS["alembic_version"] + "; CREATE TABLE runs (run_body text)")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", empty_database)
    with pytest.raises(InvalidSettings, match="alembic_version is not Dagster's"), dagster_instance():
        pass


def test_dagsters_own_tables_are_taken(instance: dg.DagsterInstance) -> None:
    check_storage()
    with dagster_instance() as again:
        assert again.get_runs() == []


def test_a_database_with_other_names_is_taken(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(empty_database) as connection:
        connection.execute("CREATE TABLE skills (id int); CREATE SCHEMA app; CREATE TABLE app.runs (id int)")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", empty_database)
    check_storage()
    assert use_dagster_home().is_dir()
