"""One machine, one home: first the demo, then two platforms one after the other."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bkt_pipeline.embedded import server as embedded
from bkt_pipeline.instance.storage import dagster_instance
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers import children
from bkt_pipeline_tests.helpers.folders import delete
from bkt_pipeline_tests.helpers.schools import enrol

AS_OF = "2026-01-01T07:00:00+00:00"
# Each of these alone keeps a connection that counts it from the embedded server.
HOSTILE = {
    "PGHOSTADDR": "203.0.113.1",
    "PGSERVICE": "nonsense",
    "PGOPTIONS": "-c nonsense=1",
    "PGDATESTYLE": "nonsense",
    "PGSSLMODE": "require",
    "PGREQUIREAUTH": "scram-sha-256",
}


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bkt-shared-"))
    folder.chmod(0o711)
    yield folder
    embedded.release(folder)
    delete(folder)


def nightly(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BKT_PIPELINE_HOME": str(home), **environment}
    return children.run("nightly", "--skip-irt", *arguments, environment=environment)


def partitions(home: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The skills in Dagster's storage as seen with that DATABASE_URL."""
    with monkeypatch.context() as patch:
        patch.setenv("BKT_PIPELINE_HOME", str(home))
        patch.setenv("DATABASE_URL", url)
        patch.delenv("DAGSTER_HOME", raising=False)
        with dagster_instance() as instance:
            return set(instance.get_dynamic_partitions("skill"))


def test_platforms_with_the_same_home_are_kept_apart(
    make_platform: Callable[..., Platform], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    production, staging = make_platform("text"), make_platform("bigint")
    skills = [
        set(map(str, enrol(platform, [60] * count))) for platform, count in ((production, 2), (staging, 3))
    ]

    demo = nightly(home, "--skill", "fractions-add", **HOSTILE)
    assert demo.returncode == 0, demo.stderr
    assert f"DATABASE_URL is not set: using the embedded Postgres in {home}" in demo.stderr.splitlines()

    for platform in (production, staging):
        ran = nightly(home, "--as-of", AS_OF, DATABASE_URL=platform.url)
        assert ran.returncode == 0, ran.stderr
        assert "DATABASE_URL is not set" not in ran.stderr
    assert partitions(home, production.url, monkeypatch) == skills[0]
    assert partitions(home, staging.url, monkeypatch) == skills[1]
    assert "fractions-add" in partitions(home, "", monkeypatch)

    forgotten = nightly(home)
    assert forgotten.returncode == 2
    (line,) = forgotten.stderr.splitlines()
    assert "BKT_DEMO=1" in line
