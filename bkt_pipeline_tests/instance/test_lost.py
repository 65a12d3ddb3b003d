"""Dagster's storage when the server drops its connections or fails for a moment, between statements and during them."""

import os

import dagster as dg
import psycopg
from psycopg import sql

import bkt_pipeline.definitions  # noqa: F401  (its preview warnings are silenced while it is imported here)
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.schools import enrol, outcomes, stored

DROP = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


def drop_connections(url: str) -> int:
    with psycopg.connect(url) as other:
        (dropped,) = other.execute(DROP, [other.info.dbname]).fetchone()
    return dropped


def test_dropped_connections_are_replaced(instance: dg.DagsterInstance) -> None:
    for _ in range(3):
        instance.add_dynamic_partitions("some", ["a"])
        assert instance.get_runs() == []
        assert list(instance.all_instigator_state()) == []
        assert drop_connections(os.environ["DAGSTER_POSTGRES_URL"]) >= 3


# One in so many statements that write fails: in turn with each class of transient failures, and with its connection.
FAILING = """
CREATE SEQUENCE {schema}.written;
CREATE FUNCTION {schema}.fail() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    number bigint := nextval('{schema}.written');
    state text := (ARRAY['08006', '25006', '53100', '57P01', 'lost'])[1 + number / {every} % 5];
BEGIN
    IF number % {every} <> 0 THEN RETURN NULL; END IF;
    IF state <> 'lost' THEN RAISE EXCEPTION USING ERRCODE = state; END IF;
    PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(10);
END $$;
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT oid::regclass FROM pg_class
        WHERE relkind = 'r' AND (relnamespace = '{schema}'::regnamespace OR relname = 'skill_bkt_params') LOOP
        EXECUTE 'CREATE TRIGGER fails AFTER INSERT OR UPDATE ON ' || name
            || ' FOR EACH STATEMENT EXECUTE FUNCTION {schema}.fail()';
    END LOOP;
END $$;
"""


def fail_now_and_then(url: str, schema: str, every: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(FAILING.format(schema=schema, every=every).encode())


def test_a_night_survives_lost_connections_and_failing_statements_on_both_databases(
    platform: Platform, night, instance: dg.DagsterInstance
) -> None:
    enrol(platform, [20, 3])
    storage = os.environ["DAGSTER_POSTGRES_URL"]
    night(platform)
    expected = stored(platform)
    for url in (storage, platform.url):
        drop_connections(url)
    fail_now_and_then(storage, "public", 37)
    fail_now_and_then(platform.url, "bkt_pipeline", 29)
    for _ in range(3):
        run = night(platform)
        assert sorted(outcomes(run).values()) == ["calibrated", "skipped"], run.outcomes
        assert run.failed_runs == {}
    assert stored(platform) == expected
    assert {status.value for status in {run.status for run in instance.get_runs()}} == {"SUCCESS"}
    for url, schema, at_least in ((storage, "public", 150), (platform.url, "bkt_pipeline", 29)):
        with psycopg.connect(url) as connection:
            written_to = sql.SQL("SELECT last_value FROM {}.written").format(sql.Identifier(schema))
            (written,) = connection.execute(written_to).fetchone()
        assert written >= at_least
    with psycopg.connect(storage) as connection:
        twice = connection.execute("SELECT event FROM event_logs GROUP BY run_id, event HAVING count(*) > 1")
        assert twice.fetchall() == []
