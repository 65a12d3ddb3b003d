"""Dagster's storage after the server has dropped its connections."""

import os

import dagster as dg
import psycopg

import bkt_pipeline.definitions  # noqa: F401  (its preview warnings are silenced while it is imported here)
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.schools import enrol, outcomes

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


def test_a_night_survives_dropped_connections_on_both_databases(
    platform: Platform, night, instance: dg.DagsterInstance
) -> None:
    enrol(platform, [20, 3])
    for url in (os.environ["DAGSTER_POSTGRES_URL"], platform.url):
        night(platform)
        drop_connections(url)
    run = night(platform)
    assert sorted(outcomes(run).values()) == ["calibrated", "skipped"], run.outcomes
