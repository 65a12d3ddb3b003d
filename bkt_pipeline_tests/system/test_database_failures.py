"""Database failures: transient ones are retried, permanent ones are reported, and both within a time limit."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db import connection
from bkt_pipeline.db.database import Database, open_database
from bkt_pipeline.embedded import server as embedded
from bkt_pipeline.errors import DatabaseUnavailable, InvalidSettings
from bkt_pipeline_tests.conftest import NO_COMPUTE_LOGS, PROJECT, Databases, Platform, database_of
from bkt_pipeline_tests.helpers import children
from bkt_pipeline_tests.helpers.nights import Night, copy_source
from bkt_pipeline_tests.helpers.proxy import Proxy
from bkt_pipeline_tests.helpers.schools import enrol
from bkt_pipeline_tests.helpers.state import snapshot, torn

MakeNight = Callable[[Platform], Night]
SOME = [20, 20, 20, 20, 20, 3]
Calm = tuple[Platform, dict[str, list[Any]]]


@pytest.fixture(scope="module")
def calm(
    databases: Databases,
    dagster_template: str,
    platform_template: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Calm]:
    """A platform with some skills, and what an undisturbed night stores in a copy of it."""
    url = databases.create(platform_template("uuid", "timestamptz"))
    platform = Platform(url, "uuid", "timestamptz")
    enrol(platform, SOME)
    folder = tmp_path_factory.mktemp("calm")
    (folder / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text() + NO_COMPUTE_LOGS)
    night = Night(databases.create(database_of(url)), databases.create(dagster_template), folder)
    night.undisturbed()
    yield platform, snapshot(night.url)
    for made in (url, night.url, night.environment["DAGSTER_POSTGRES_URL"]):
        databases.drop(made)


@pytest.fixture
def database(make_platform: Callable[..., Platform], monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    platform = make_platform(migrated=True)
    enrol(platform, [1])
    monkeypatch.setenv("DATABASE_URL", platform.url)
    with open_database() as opened:
        yield opened


def ask(database: Database, statement: str = "SELECT 1") -> object:
    return database.run(lambda connection: connection.execute(text(statement)).scalar())


def test_a_pooled_connection_closed_by_the_server_is_retried(database: Database) -> None:
    backend = ask(database, "SELECT pg_backend_pid()")
    with psycopg.connect(os.environ["DATABASE_URL"]) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
    assert ask(database) == 1


def test_a_lock_held_longer_than_the_timeout_is_retried(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOCK_SECONDS", 0.1)
    refused = threading.Event()
    with psycopg.connect(os.environ["DATABASE_URL"]) as other:
        other.execute("LOCK TABLE skill_bkt_params")

        def work(of_ours: object) -> object:
            try:
                return of_ours.execute(text("SELECT count(*) FROM skill_bkt_params")).scalar()
            except DBAPIError:
                refused.set()
                raise

        releases = threading.Thread(target=lambda: (refused.wait(60), other.rollback()))
        releases.start()
        assert database.run(work) == 0
        releases.join()
    assert refused.is_set()


def test_a_lock_that_is_never_released_fails_only_its_skill_with_a_reason(
    platform: Platform, make_night: MakeNight
) -> None:
    enrol(platform, SOME)
    night = make_night(platform)
    night.undisturbed()
    before = snapshot(night.url)["skill_bkt_params"]
    with psycopg.connect(night.url) as other:
        other.execute("SELECT FROM skill_bkt_params WHERE skill_id = %s FOR UPDATE", [platform.id(2)])
        code, output = night.ends(night.start(BKT_RETRY_SECONDS="1"))
    assert code == 1
    assert "1 failed" in output
    ledger = snapshot(night.url)["night_skills"]
    assert {row["skill_id"]: row["reason"] for row in ledger if row["outcome"] == "failed"} == {
        str(platform.id(2)): "it was not stored: canceling statement due to lock timeout (SQLSTATE 55P03)"
    }
    assert snapshot(night.url)["skill_bkt_params"] == before
    assert torn(night.url) == {}


def test_a_night_survives_terminated_backends(calm: Calm, make_night: MakeNight) -> None:
    platform, expected = calm
    night = make_night(platform)
    killed = 0
    with psycopg.connect(night.url, autocommit=True) as other:
        child = night.start()
        while child.is_alive():
            killed += other.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'bkt-pipeline' AND datname = current_database()"
                " AND pid <> pg_backend_pid() AND %s < 5",
                [killed],
            ).fetchone()[0]
            time.sleep(0.04)
    assert night.ends(child)[0] == 0
    assert killed
    assert snapshot(night.url) == expected


def test_a_night_survives_a_restart_of_the_server(
    calm: Calm, make_night: MakeNight, own_server: Path
) -> None:
    platform, expected = calm
    night = make_night(platform)
    url = embedded.ensure(own_server, database="bkt", linger=0.2)
    copy_source(platform.url, url)
    night.environment["DATABASE_URL"] = url
    child = night.start()
    with psycopg.connect(url, autocommit=True) as other:
        while not other.execute("SELECT to_regclass('bkt_pipeline.attempt_windows')").fetchone()[0]:
            time.sleep(0.01)
    os.kill(postmaster(own_server), signal.SIGINT)
    while (own_server / "postgres/pgdata/postmaster.pid").exists():
        time.sleep(0.01)
    embedded.ensure(own_server, linger=0.2)
    code, output = night.ends(child)
    assert code == 0, output
    assert snapshot(url) == expected


def test_a_server_that_dies_in_the_middle_ends_the_night_with_one_line(
    platform: Platform, make_night: MakeNight
) -> None:
    enrol(platform, [20] * 30)
    night = make_night(platform)
    with Proxy(night.url) as proxy, psycopg.connect(night.url, autocommit=True) as other:
        night.environment["DATABASE_URL"] = proxy.url
        child = night.start(BKT_RETRY_SECONDS="2")
        while not stored_any(other):
            time.sleep(0.01)
        proxy.refusing = True
        proxy.cut()
        code, output = night.ends(child)
        tries = proxy.accepted
    assert code == 2
    (line,) = [line for line in output.splitlines() if "…" not in line]
    assert line.startswith("bkt-pipeline nightly: ")
    assert "the database cannot be used: " in line
    assert "BKT_RETRY_SECONDS" in line
    assert tries < 30, "each skill retried separately"
    assert torn(night.url) == {}


def stored_any(other: psycopg.Connection) -> bool:
    if not other.execute("SELECT to_regclass('bkt_pipeline.attempt_windows')").fetchone()[0]:
        return False
    return other.execute("SELECT EXISTS (SELECT FROM bkt_pipeline.attempt_windows)").fetchone()[0]


def test_a_lost_answer_is_retried_on_a_new_connection(calm: Calm, make_night: MakeNight) -> None:
    platform, expected = calm
    night = make_night(platform)
    with Proxy(night.url, freeze_after=20_000, most=2) as proxy:
        night.environment["DATABASE_URL"] = proxy.url
        code, output = night.ends(night.start(work=children.impatient_nightly, BKT_STATEMENT_SECONDS="1"))
        assert (code, proxy.frozen) == (0, 2), output
    assert snapshot(night.url) == expected


def test_a_network_that_loses_every_answer_ends_the_night_with_one_line(
    platform: Platform, make_night: MakeNight
) -> None:
    enrol(platform, SOME)
    night = make_night(platform)
    with Proxy(night.url, freeze_after=20_000, most=1000) as proxy:
        night.environment["DATABASE_URL"] = proxy.url
        settings = {"BKT_STATEMENT_SECONDS": "1", "BKT_RETRY_SECONDS": "1"}
        code, output = night.ends(night.start(work=children.impatient_nightly, **settings))
        frozen = proxy.frozen
    assert code == 2, output
    # The first lost answer is retried; that spends the run's whole retry budget.
    assert 1 <= frozen <= 2
    (line,) = [line for line in output.splitlines() if "…" not in line]
    assert "no answer for 2 s, see BKT_STATEMENT_SECONDS" in line
    assert torn(night.url) == {}


def test_full_connection_slots_are_waited_for(calm: Calm, plain_role: str, make_night: MakeNight) -> None:
    platform, expected = calm
    night = make_night(platform)
    night.undisturbed()
    name = sql.Identifier(database_of(night.url))
    night.environment["DATABASE_URL"] = night.url.replace("postgres@", f"{plain_role}@")
    with psycopg.connect(night.url, autocommit=True) as other:
        own(other, plain_role)
        other.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 0").format(name))
        code, output = night.ends(night.start(BKT_RETRY_SECONDS="1"))
        assert code == 2
        assert "too many connections for database" in output
        child = night.start()
        time.sleep(1)
        other.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(name))
        code, output = night.ends(child)
    assert code == 0, output
    assert snapshot(night.url) == expected


@pytest.fixture
def plain_role(server_url: str) -> Iterator[str]:
    """A role that is not a superuser, so that the server's limits apply to it."""
    with psycopg.connect(server_url, autocommit=True) as other:
        other.execute("CREATE ROLE plain LOGIN")
    yield "plain"
    with psycopg.connect(server_url, autocommit=True) as other:
        other.execute("DROP ROLE plain")


def own(other: psycopg.Connection, role: str) -> None:
    """Grant the role all rights in the database."""
    for schema in ("public", "bkt_pipeline"):
        for what in ("USAGE ON SCHEMA {0}", "ALL ON ALL TABLES IN SCHEMA {0}"):
            statement = sql.SQL("GRANT " + what + " TO {1}")
            other.execute(statement.format(sql.Identifier(schema), sql.Identifier(role)))


def test_a_database_that_is_down_ends_the_night_with_one_line(
    make_night: MakeNight, platform: Platform
) -> None:
    night = make_night(platform)
    night.environment["DATABASE_URL"] = "postgresql://someone:secret@127.0.0.1:1/platform"
    code, output = night.ends(night.start(BKT_RETRY_SECONDS="1"))
    assert code == 2
    (line,) = output.splitlines()
    assert line.startswith("bkt-pipeline nightly: the database cannot be used: ")
    assert "refused" in line


def test_dagsters_storage_that_is_down_ends_the_night_with_one_line(
    make_night: MakeNight, platform: Platform
) -> None:
    night = make_night(platform)
    night.environment["DAGSTER_POSTGRES_URL"] = "postgresql://someone:secret@127.0.0.1:1/dagster"
    code, output = night.ends(night.start())
    assert code == 2
    assert "secret" not in output
    (line,) = output.splitlines()
    assert line.startswith("bkt-pipeline nightly: Dagster's storage (DAGSTER_POSTGRES_URL) cannot be used: ")
    assert "refused" in line


def test_all_transactions_of_a_run_share_one_retry_budget(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is spent, each transaction still gets one try; the next run starts with a full budget."""
    monkeypatch.setenv("BKT_RETRY_SECONDS", "1")
    with Proxy(os.environ["DATABASE_URL"]) as proxy:
        engine = connection.make_engine(proxy.url)
        database_behind_proxy = Database(engine, database.platform, embedded=False)
        assert ask(database_behind_proxy) == 1
        proxy.refusing = True
        proxy.cut()
        tries = []
        for _ in range(4):
            before = proxy.accepted
            with pytest.raises(DatabaseUnavailable):
                ask(database_behind_proxy)
            tries.append(proxy.accepted - before)
        assert tries[0] > 1
        assert tries[1:] == [1, 1, 1]
        database_behind_proxy.close()
        proxy.refusing = False
        assert ask(database_behind_proxy) == 1
        database_behind_proxy.close()


@pytest.mark.parametrize("name", ["BKT_RETRY_SECONDS", "BKT_STATEMENT_SECONDS"])
@pytest.mark.parametrize("value", ["soon", "-1", "1.5"])
def test_an_invalid_setting_is_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=name):
        ask(open_database())


def postmaster(home: Path) -> int:
    return int((home / "postgres/pgdata/postmaster.pid").read_text().split()[0])
