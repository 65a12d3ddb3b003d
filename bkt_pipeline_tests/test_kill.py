"""Killed with SIGKILL at any moment, the next run ends with the rows of a night that nobody disturbed.

`benchmarks/kill.py` does the same for longer, with one more run after every single kill, and kills the daemon.
"""

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from bkt_pipeline.db import embedded
from bkt_pipeline.runs import UNFINISHED
from bkt_pipeline_tests import children
from bkt_pipeline_tests.conftest import PROJECT, Databases, Platform, _create_source_tables, database_of
from bkt_pipeline_tests.state import snapshot, torn
from bkt_pipeline_tests.test_night import AS_OF, enrol, statuses

SKILLS = 10
NIGHTS, KILLS_A_NIGHT = 4, 13


class Night:
    """The command `nightly` in a child process, on a platform and a Dagster instance."""

    def __init__(self, url: str, dagster: str, folder: Path) -> None:
        self.url = url
        self.environment = {
            "DATABASE_URL": url,
            "DAGSTER_POSTGRES_URL": dagster,
            "DAGSTER_HOME": str(folder),
        }
        self.output = folder / "output"

    def start(self) -> children.ForkServerProcess:
        return children.start(
            children.nightly, "--as-of", AS_OF.isoformat(), environment=self.environment, output=self.output
        )

    def undisturbed(self) -> float:
        """Run to the end; returns the seconds it took."""
        started = time.monotonic()
        child = self.start()
        child.join()
        assert child.exitcode == 0, self.output.read_text()
        return time.monotonic() - started

    def killed_after(self, seconds: float) -> bool:
        """Run, and kill it then; says whether it was still running."""
        child = self.start()
        child.join(seconds)
        child.kill()
        child.join()
        return child.exitcode == -signal.SIGKILL

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            with dg.DagsterInstance.get() as instance:
                yield instance


@pytest.fixture
def make_night(
    databases: Databases, dagster_template: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[Platform], Night]]:
    """Makes a night on copies of a platform and of a Dagster storage, both as they are now."""
    monkeypatch.syspath_prepend(str(PROJECT))
    urls: list[str] = []

    def make(platform: Platform) -> Night:
        folder = tmp_path / f"dagster-{len(urls)}"
        folder.mkdir()
        shutil.copy(PROJECT / "dagster.yaml", folder)
        urls.extend([databases.create(database_of(platform.url)), databases.create(dagster_template)])
        return Night(urls[-2], urls[-1], folder)

    yield make
    for url in urls:
        databases.drop(url)


def test_a_killed_night_leaves_nothing_torn_and_the_next_ends_as_if_nothing_had_been(
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
        for _ in range(KILLS_A_NIGHT):
            hits += night.killed_after(chance.uniform(0.05, seconds))
            assert torn(night.url) == {}
        night.undisturbed()
        assert snapshot(night.url) == expected
        return hits

    nights = [make_night(platform) for _ in range(NIGHTS)]
    with ThreadPoolExecutor(2) as threads:
        hits = sum(threads.map(kill_often, nights))
    assert hits > NIGHTS * KILLS_A_NIGHT / 2
    for night in nights:
        with night.instance() as instance:
            assert statuses(instance) == dict.fromkeys(keys, "MATERIALIZED")
            assert instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)) == []


def test_a_killed_server_leaves_nothing_torn_and_the_next_night_ends_as_if_nothing_had_been(
    platform: Platform, make_night: Callable[[Platform], Night], own_server: Path, tmp_path: Path
) -> None:
    enrol(platform, [20] * (SKILLS - 1) + [3])
    calm = make_night(platform)
    calm.undisturbed()
    seconds = calm.undisturbed()
    url, dagster = (embedded.ensure(own_server, database=name) for name in ("bkt", "dagster"))
    copy_source(platform.url, url)
    night = Night(url, dagster, calm.output.parent)
    night.undisturbed()
    with psycopg.connect(url) as connection:
        connection.execute("DROP SCHEMA bkt_pipeline CASCADE")
        connection.execute("DROP TABLE skill_bkt_params")
    for moment in (0.3, 0.5, 0.6, 0.7, 0.9):
        child = night.start()
        child.join(moment * seconds)
        os.kill(int((own_server / "postgres/pgdata/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        embedded.ensure(own_server)
        child.join()
        assert child.exitcode in (0, 1, 2), night.output.read_text()
        assert "Traceback" not in night.output.read_text()
    night.undisturbed()
    assert torn(url) == {}
    assert snapshot(url) == snapshot(calm.url)


@pytest.fixture
def own_server() -> Iterator[Path]:
    """The home of a running server that a test may kill."""
    folder = Path(tempfile.mkdtemp(prefix="bkt-kill-"))
    folder.chmod(0o711)
    embedded.ensure(folder, options=("fsync=off", "autovacuum=off"), linger=0.2)
    yield folder
    embedded.release(folder)
    shutil.rmtree(folder)


def copy_source(there: str, here: str) -> None:
    _create_source_tables(here, "uuid", "timestamptz")
    with psycopg.connect(there) as source, psycopg.connect(here) as target:
        for table in ("skills", "items", "attempts"):
            with (
                source.cursor().copy(f"COPY {table} TO STDOUT") as rows,
                target.cursor().copy(f"COPY {table} FROM STDIN") as copy,
            ):
                for row in rows:
                    copy.write(row)
