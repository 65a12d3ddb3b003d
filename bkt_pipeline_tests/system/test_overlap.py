"""A night, a backfill and single runs on the same skills at the same time, each in a separate process."""

import datetime as dt
import os
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from bkt_pipeline.db.database import open_database
from bkt_pipeline_tests.conftest import AS_OF, PROJECT, Platform
from bkt_pipeline_tests.helpers import children
from bkt_pipeline_tests.helpers.schools import PARAMS, enrol
from bkt_pipeline_tests.helpers.state import snapshot, torn

SKILLS = 6
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def environment(
    platform: Platform, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """What a child needs to work on this test's platform and Dagster instance."""
    monkeypatch.syspath_prepend(str(PROJECT))
    monkeypatch.setenv("DATABASE_URL", platform.url)
    open_database().close()
    names = ("DATABASE_URL", "DAGSTER_HOME", "DAGSTER_POSTGRES_URL")
    return {name: os.environ[name] for name in names}


def test_the_newest_as_of_wins_and_older_runs_report_that(
    platform: Platform, instance: dg.DagsterInstance, environment: dict[str, str], tmp_path: Path
) -> None:
    keys = list(enrol(platform, [20] * SKILLS))
    instance.add_dynamic_partitions("skill", keys)

    def run_all(moments: dict[str, dt.datetime]) -> list[int | None]:
        at = {who: moment.isoformat() for who, moment in moments.items()}
        works = {
            "night": (children.nightly, "--as-of", at["night"]),
            "backfill": (children.click, keys[0], keys[-1], at["backfill"]),
            "click": (children.click, keys[3], keys[3], at["click"]),
            "other click": (children.click, keys[5], keys[5], at["click"]),
        }
        started = [
            children.start(*work, environment=environment, output=tmp_path / name.replace(" ", "-"))
            for name, work in works.items()
        ]
        for child in started:
            child.join()
        return [child.exitcode for child in started]

    for moments in (
        {"night": AS_OF, "backfill": AS_OF - HOUR, "click": AS_OF + HOUR},
        {"night": AS_OF + 25 * HOUR, "backfill": AS_OF + 26 * HOUR, "click": AS_OF + 24 * HOUR},
        {"night": AS_OF + 48 * HOUR, "backfill": AS_OF + 48 * HOUR, "click": AS_OF + 48 * HOUR},
    ):
        codes = run_all(moments)
        # The night that newer runs overtake whole has calibrated nothing, which is exit code 1.
        assert codes[0] in (0, 1), codes
        assert codes[1:] == [0, 0, 0], {
            path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()
        }
        assert torn(platform.url) == {}
        expected = {key: max(moments["night"], moments["backfill"]) for key in keys}
        for key in (keys[3], keys[5]):
            expected[key] = max(moments.values())
        assert published(platform) == expected
        assert {row["as_of"] for row in snapshot(platform.url)["attempt_windows"]} == {
            moment.isoformat() for moment in expected.values()
        }

    # Above, timing decided which run was overtaken; here the older run certainly is.
    before = snapshot(platform.url)
    late = (AS_OF + 47 * HOUR).isoformat()
    child = children.start(
        children.click, keys[0], keys[-1], late, environment=environment, output=tmp_path / "late"
    )
    child.join()
    assert child.exitcode == 0
    assert snapshot(platform.url) == before
    last = [event.asset_materialization for event in instance.fetch_materializations(PARAMS, SKILLS).records]
    assert {event.partition for event in last} == set(keys)
    for event in last:
        assert event.metadata["outcome"].value == "overtaken"
        assert event.metadata["reason"].value.startswith("newer parameters are published")


def published(platform: Platform) -> dict[str, dt.datetime]:
    with psycopg.connect(platform.url) as connection:
        return dict(
            connection.execute("SELECT skill_id, as_of FROM bkt_pipeline.published_params").fetchall()
        )
