"""A rehearsal runs a night and leaves everything that was published alone; `compare` shows how they differ."""

import json
from pathlib import Path

import dagster as dg
import psycopg
import pytest

# Importing it warns once, and inside a test a warning is an error.
import bkt_pipeline.definitions  # noqa: F401
from bkt_pipeline.cli.main import main
from bkt_pipeline_tests.conftest import AS_OF, Platform
from bkt_pipeline_tests.helpers.schools import PARAMS, enrol, refuse
from bkt_pipeline_tests.helpers.state import snapshot

REHEARSED = ("rehearsed_fits", "rehearsed_skills", "rehearsed_items", "rehearsed_item_params")
NIGHT = AS_OF.date().isoformat()


@pytest.fixture
def school(platform: Platform, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setenv("DATABASE_URL", platform.url)
    enrol(platform, [40, 60, 3])
    return platform


def nightly(*options: str) -> int:
    return main(["nightly", "--as-of", AS_OF.isoformat(), *options])


def published(platform: Platform) -> dict[str, object]:
    return {name: rows for name, rows in snapshot(platform.url).items() if name not in REHEARSED}


def test_a_rehearsal_leaves_what_was_published_alone(
    school: Platform, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert nightly() == 0
    before = published(school)
    materialised = instance.get_latest_materialization_event(PARAMS)
    as_json = tmp_path / "night.json"
    options = ["--estimator", "pooled", "--min-attempts", "0", "--window-days", "60"]
    assert nightly("--rehearse", *options, "--json", str(as_json)) == 0
    assert published(school) == before
    assert instance.get_latest_materialization_event(PARAMS) == materialised
    out = capfd.readouterr().out
    assert "3 skills: 3 calibrated" in out
    assert "Nothing was published" in out
    fits = {row["skill_id"]: row for row in snapshot(school.url)["rehearsed_fits"]}
    assert [fit["estimator"] for fit in fits.values()] == ["pooled"] * 3
    outcomes = sorted(row["outcome"] for row in snapshot(school.url)["rehearsed_items"])
    assert outcomes == ["calibrated", "calibrated", "skipped"]
    rehearsed, real = (
        {row["item_id"]: row["irt_b"] for row in snapshot(school.url)[table] if row["irt_b"] is not None}
        for table in ("rehearsed_item_params", "item_irt_params")
    )
    # The abilities come from the parameters that the rehearsal would have published.
    assert rehearsed.keys() == real.keys()
    assert all(abs(rehearsed[item] - real[item]) > 1e-6 for item in real)
    result = json.loads(as_json.read_text())["calibrated_skills"]
    assert {key: values["p_l0"] for key, values in result.items()} == {
        key: fit["pooled_p_l0"] for key, fit in fits.items()
    }


def test_a_night_goes_on_after_a_rehearsal_as_if_it_had_not_been(
    school: Platform, instance: dg.DagsterInstance
) -> None:
    assert nightly("--skip-irt", "--rehearse", "--estimator", "pooled") == 0
    assert not any(published(school).values())
    assert nightly("--skip-irt") == 0
    assert {row["estimator"] for row in snapshot(school.url)["skill_fits"]} == {"grid"}


def test_a_skill_that_fails_in_a_rehearsal_is_not_in_the_ledger(
    school: Platform, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    assert nightly("--skip-irt") == 0
    before = published(school)
    with psycopg.connect(school.url) as connection:
        connection.execute(
            "ALTER TABLE bkt_pipeline.rehearsed_fits ADD CONSTRAINT refused CHECK (attempts <> 240)"
        )
    assert nightly("--rehearse") == 1
    assert "1 calibrated, 1 skipped, 1 failed" in capfd.readouterr().out
    assert published(school) == before


def test_a_table_that_refuses_a_row_costs_a_rehearsal_nothing(
    school: Platform, instance: dg.DagsterInstance
) -> None:
    assert nightly("--skip-irt", "--skill", str(school.id(1))) == 0
    refuse(school, str(school.id(2)))
    assert nightly("--rehearse") == 0


def test_a_night_and_a_rehearsal_side_by_side(
    school: Platform, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    assert nightly() == 0
    capfd.readouterr()
    assert main(["compare", NIGHT, NIGHT]) == 0
    assert "0 of 2 skills differ; only in" in capfd.readouterr().out
    assert main(["compare", NIGHT, "rehearsal"]) == 2
    assert "there is no rehearsal yet" in capfd.readouterr().err
    assert nightly("--rehearse", "--estimator", "pooled", "--min-attempts", "0") == 0
    capfd.readouterr()
    assert main(["compare", NIGHT, "rehearsal"]) == 0
    out = capfd.readouterr().out
    assert f"{NIGHT}: as of {NIGHT} 07:00 UTC, 2 skills by grid, 600 attempts" in out
    assert "rehearsal: as of 2026-01-01 07:00 UTC, 3 skills by pooled, 618 attempts" in out
    assert "2 of 2 skills differ; only in 2026-01-01: 0, only in rehearsal: 1" in out
    assert "→" in out
    of_items = [line.partition(": ")[0] for line in out.splitlines() if "of the item models" in line]
    assert of_items == [NIGHT, "rehearsal"]
    marked = [line.split()[:2] for line in out.splitlines() if line.rstrip().endswith("published")]
    assert marked == [[NIGHT, "grid"], ["rehearsal", "pooled"]]


def test_a_rehearsal_leaves_nothing_of_an_earlier_one_of_the_same_as_of(
    school: Platform, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    assert nightly("--rehearse", "--estimator", "pooled", "--min-attempts", "0") == 0
    assert nightly("--rehearse", "--min-attempts", "300") == 0
    assert [row["attempts"] for row in snapshot(school.url)["rehearsed_fits"]] == [360]
    of_items = {row["skill_id"] for row in snapshot(school.url)["rehearsed_item_params"]}
    assert of_items == {row["skill_id"] for row in snapshot(school.url)["rehearsed_fits"]}


@pytest.mark.parametrize(
    ("name", "why"),
    [("yesterday", "neither a date nor the word rehearsal"), ("2020-01-01", "no skill was calibrated")],
)
def test_what_cannot_be_compared_is_named(
    school: Platform, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    assert main(["compare", name, NIGHT]) == 2
    assert why in capfd.readouterr().err
