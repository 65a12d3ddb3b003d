"""Killed with SIGKILL at any moment, the next run ends with the rows of a night that nobody disturbed.

`benchmarks/kill.py` does the same for longer, with one more run after every single kill, and kills the daemon.
"""

import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import psycopg
import pytest

from bkt_pipeline.db import embedded
from bkt_pipeline_tests import children
from bkt_pipeline_tests.conftest import PROJECT, Databases, Platform, _dagster_home, database_of
from bkt_pipeline_tests.state import snapshot, torn
from bkt_pipeline_tests.test_night import AS_OF, enrol, statuses

SKILLS = 10
ROUNDS, KILLS_A_ROUND = 5, 10


class Night:
    """The command `nightly` in a child process, on a platform and a Dagster instance."""

    def __init__(self, platform: str, dagster: str, folder: Path) -> None:
        self.environment = {
            "DATABASE_URL": platform,
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


@pytest.fixture
def make_night(
    databases: Databases, dagster_template: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[str], Night]]:
    monkeypatch.syspath_prepend(str(PROJECT))
    urls: list[str] = []

    def make(platform: str) -> Night:
        folder = tmp_path / f"dagster-{len(urls)}"
        folder.mkdir()
        shutil.copy(PROJECT / "dagster.yaml", folder)
        urls.append(databases.create(dagster_template))
        return Night(platform, urls[-1], folder)

    yield make
    for url in urls:
        databases.drop(url)


def test_a_killed_night_leaves_nothing_torn_and_the_next_one_ends_as_if_nothing_was(
    platform: Platform, databases: Databases, make_night: Callable[[str], Night]
) -> None:
    keys = list(enrol(platform, [20] * (SKILLS - 1) + [3]))
    untouched = database_of(platform.url)
    calm = databases.create(untouched)
    make_night(calm).undisturbed()
    again = make_night(databases.create(untouched))
    seconds = again.undisturbed()
    expected = snapshot(calm)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    hits = 0
    for _ in range(ROUNDS):
        url = databases.create(untouched)
        night = make_night(url)
        for _ in range(KILLS_A_ROUND):
            hits += night.killed_after(chance.uniform(0.05, seconds * 1.05))
            assert torn(url) == {}, f"seed {seed}"
        night.undisturbed()
        assert snapshot(url) == expected, f"seed {seed}"
        with opened(night) as instance:
            assert set(statuses(instance)) == set(keys)
            assert set(statuses(instance).values()) == {"MATERIALIZED"}
            assert instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])) == []
    assert hits >= ROUNDS * KILLS_A_ROUND * 3 // 4, f"only {hits} of the kills came before the end"
