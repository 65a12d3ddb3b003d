"""Connections to the embedded server against everything that libpq reads from the environment."""

import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.pq import Conninfo
from sqlalchemy import create_engine, text

from bkt_pipeline.db.connection import make_engine
from bkt_pipeline.db.database import connect
from bkt_pipeline.instance.storage import embedded_dsn, sqlalchemy_url

# From libpq's documentation: those that are no parameter of a connection.
WITHOUT_PARAMETER = (
    "PGDATESTYLE",
    "PGTZ",
    "PGGEQO",
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
    "PGLOCALEDIR",
    "PGREQUIRESSL",
)
VARIABLES = sorted(
    {option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar} | set(WITHOUT_PARAMETER)
)
VALUES = ("nonsense", "-1", "require", "203.0.113.1")
ASKED = (
    "SELECT current_setting('port'), current_setting('TimeZone'), current_setting('DateStyle'), current_user"
)
ANSWERED = ("5432", "UTC", "ISO, MDY", "postgres")


def ask_as_the_platform() -> tuple[str, ...]:
    engine, is_embedded = connect(budget_seconds=0)
    assert is_embedded
    try:
        with engine.connect() as connection:
            return tuple(connection.execute(text(ASKED)).one())
    finally:
        engine.dispose()


def ask_as_dagsters_storage() -> tuple[str, ...]:
    engine = create_engine(sqlalchemy_url(embedded_dsn()))
    try:
        with engine.connect() as connection:
            return tuple(connection.execute(text(ASKED)).one())
    finally:
        engine.dispose()


ASKERS = (ask_as_the_platform, ask_as_dagsters_storage)


@pytest.fixture(autouse=True)
def _demo(monkeypatch: pytest.MonkeyPatch, server_home: Path, server_url: str) -> None:
    monkeypatch.setenv("BKT_PIPELINE_HOME", str(server_home))
    monkeypatch.setenv("BKT_DEMO", "1")


@pytest.mark.parametrize("ask", ASKERS)
@pytest.mark.parametrize("name", VARIABLES)
def test_no_variable_reaches_the_embedded_server(
    monkeypatch: pytest.MonkeyPatch, name: str, ask: Callable[[], tuple[str, ...]]
) -> None:
    for value in VALUES:
        monkeypatch.setenv(name, value)
        assert ask() == ANSWERED, value


@pytest.mark.parametrize("ask", ASKERS)
@pytest.mark.parametrize("value", [*VALUES, "", "/nonexistent/file"])
def test_nor_do_all_at_once(
    monkeypatch: pytest.MonkeyPatch, value: str, ask: Callable[[], tuple[str, ...]]
) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, value)
    assert ask() == ANSWERED


def test_a_service_of_the_platforms_leaves_dagsters_storage_on_the_embedded_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """PGSERVICE may belong to DATABASE_URL, so it stays; what it defines does not count here."""
    services = tmp_path / "services"
    services.write_text(
        "[platform]\nhost=203.0.113.1\nhostaddr=203.0.113.1\nport=1\nsslmode=require\nuser=x\n"
    )
    monkeypatch.setenv("DATABASE_URL", "postgresql:///platform")
    monkeypatch.setenv("PGSERVICE", "platform")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    assert ask_as_dagsters_storage() == ANSWERED
    assert os.environ["PGSERVICE"] == "platform"


def test_a_platforms_url_uses_libpqs_variables(
    monkeypatch: pytest.MonkeyPatch, server_url: str, empty_database: str
) -> None:
    server = psycopg.conninfo.conninfo_to_dict(server_url)
    monkeypatch.setenv("PGHOST", str(server["host"]))
    monkeypatch.setenv("PGUSER", "postgres")
    monkeypatch.setenv("PGAPPNAME", "ours")
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=7MB")
    monkeypatch.setenv(
        "DATABASE_URL", f"postgresql:///{psycopg.conninfo.conninfo_to_dict(empty_database)['dbname']}"
    )
    engine, is_embedded = connect(budget_seconds=0)
    assert not is_embedded
    with engine.connect() as connection:
        assert connection.execute(text("SHOW work_mem")).scalar() == "7MB"
    engine.dispose()


def test_the_guard_sees_a_variable_that_counts(
    monkeypatch: pytest.MonkeyPatch, server_url: str, empty_database: str
) -> None:
    """What this module tests would fail for a URL that leaves something open."""
    server = psycopg.conninfo.conninfo_to_dict(server_url)
    monkeypatch.setenv("PGDATESTYLE", "nonsense")
    engine = make_engine(f"postgresql://postgres@/postgres?host={server['host']}", budget_seconds=0)
    with pytest.raises(Exception, match="DateStyle"):
        engine.connect()
    engine.dispose()
