"""After a SIGKILL at any moment, the next run stores the same rows as an undisturbed night."""

import os
import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from bkt_pipeline.embedded import server as embedded
from bkt_pipeline.instance.runs import UNFINISHED_STATUSES
from bkt_pipeline.instance.storage import embedded_name
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.nights import Night, copy_source
from bkt_pipeline_tests.helpers.schools import enrol, statuses
from bkt_pipeline_tests.helpers.state import snapshot, torn

SKILLS = 6
NIGHTS, KILLS_A_NIGHT = 2, 3


def test_after_a_killed_night_the_tables_are_consistent_and_the_next_night_stores_the_usual_rows(
    platform: Platform, make_night: Callable[[Platform], Night]
) -> None:
    keys = set(enrol(platform, [20] * (SKILLS - 1) + [3]))
    calm = make_night(platform)
    calm.undisturbed()
    expected = snapshot(calm.url)
    seconds = calm.undisturbed()
    assert snapshot(calm.url) == expected
    chance = random.Random()

    def kill_often(night: Night) -> int:
        hits = 0
        # A run that had already ended was not killed. This is frequent if the machine was busier during the timing.
        for _ in range(10 * KILLS_A_NIGHT):
            hits += night.killed_after(chance.uniform(0.05, seconds))
            assert torn(night.url) == {}
            if hits == KILLS_A_NIGHT:
                break
        night.undisturbed()
        assert snapshot(night.url) == expected
        return hits

    nights = [make_night(platform) for _ in range(NIGHTS)]
    with ThreadPoolExecutor(2) as threads:
        hits = sum(threads.map(kill_often, nights))
    assert hits == NIGHTS * KILLS_A_NIGHT
    for night in nights:
        with night.instance() as instance:
            assert statuses(instance) == dict.fromkeys(keys, "MATERIALIZED")
            assert instance.get_runs(dg.RunsFilter(statuses=UNFINISHED_STATUSES)) == []


def test_after_a_killed_server_the_tables_are_consistent_and_the_next_night_stores_the_usual_rows(
    platform: Platform, make_night: Callable[[Platform], Night], own_server: Path, tmp_path: Path
) -> None:
    enrol(platform, [20] * (SKILLS - 1) + [3])
    calm = make_night(platform)
    calm.undisturbed()
    seconds = calm.undisturbed()
    url, dagster = (embedded.ensure(own_server, database=name, linger=0.2) for name in ("bkt", "dagster"))
    copy_source(platform.url, url)
    night = Night(url, dagster, calm.output.parent)
    night.undisturbed()
    with psycopg.connect(url) as connection:
        connection.execute("DROP SCHEMA bkt_pipeline CASCADE")
        connection.execute("DROP TABLE skill_bkt_params")
    for moment in (0.6,):
        child = night.start()
        child.join(moment * seconds)
        os.kill(int((own_server / "postgres/pgdata/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        embedded.ensure(own_server, linger=0.2)
        child.join()
        assert child.exitcode in (0, 1, 2), night.output.read_text()
        assert "Traceback" not in night.output.read_text()
    night.undisturbed()
    assert torn(url) == {}
    assert snapshot(url) == snapshot(calm.url)


def test_a_start_after_a_kill_creates_all_of_dagsters_tables(
    make_night: Callable[[Platform], Night],
    platform: Platform,
    own_server: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dagster creates its tables one by one, and takes the presence of one to mean that all exist."""
    enrol(platform, [20])
    night = make_night(platform)
    night.environment |= {"DAGSTER_POSTGRES_URL": "", "BKT_PIPELINE_HOME": str(own_server)}
    monkeypatch.setenv("DATABASE_URL", night.url)
    url = embedded.ensure(own_server, database=embedded_name(), linger=0.2)
    child = night.start()
    with psycopg.connect(url, autocommit=True) as other:
        while not other.execute("SELECT to_regclass('runs')").fetchone()[0]:
            pass
        child.kill()
        child.join()
    night.undisturbed()
    night.undisturbed()
