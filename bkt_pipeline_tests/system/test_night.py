"""Nights through Dagster, on a real instance and real databases."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from psycopg import sql

from bkt_pipeline.calibration.skill_checks import SKILL_CHECKS
from bkt_pipeline.calibration.window_checks import WINDOW_CHECKS
from bkt_pipeline.db.database import open_database
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.night import NightFailed, run_night
from bkt_pipeline.defs.partitions import range_tags
from bkt_pipeline.defs.tags import night_tags
from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.instance.storage import dagster_instance, slow_to_start
from bkt_pipeline.model import calibrate
from bkt_pipeline_tests.conftest import AS_OF, PROJECT, Platform
from bkt_pipeline_tests.helpers.schools import (
    EPOCH,
    PARAMS,
    WINDOW,
    checks_of,
    enrol,
    latest,
    outcomes,
    refuse,
    statuses,
    stored,
)

ERROR = dg.AssetCheckSeverity.ERROR


@pytest.mark.parametrize("kind", [("uuid", "timestamptz"), ("text", "timestamp"), ("bigint", "timestamptz")])
def test_a_night_stores_the_grid_winner_of_every_skill(
    make_platform: Callable[..., Platform], night, kind: tuple[str, str]
) -> None:
    any_platform = make_platform(*kind)
    windows = enrol(any_platform, [40, 60, 3])
    run = night(any_platform)
    expected = {key: calibrate(window).params for key, window in windows.items() if window.n_attempts >= 50}
    assert stored(any_platform) == {
        key: (*params.values, params.log_likelihood) for key, params in expected.items()
    }
    assert outcomes(run) == {
        str(any_platform.id(n)): o for n, o in [(1, "calibrated"), (2, "calibrated"), (3, "skipped")]
    }
    with psycopg.connect(any_platform.url) as connection:
        rows = connection.execute("SELECT skill_id, source FROM bkt_pipeline.current_params").fetchall()
    assert dict(rows) == {
        any_platform.id(n): source for n, source in [(1, "calibrated"), (2, "calibrated"), (3, "prior")]
    }


def test_a_night_returns_what_it_stores_writes_nothing_else_and_can_be_repeated(
    platform: Platform, night, instance: dg.DagsterInstance
) -> None:
    enrol(platform, [30, 30, 2])
    before = fingerprint(platform)
    run = night(platform)
    assert fingerprint(platform) == before, "the source tables are never written"
    first = stored(platform)
    names = ("p_l0", "p_transit", "p_slip", "p_guess", "log_likelihood")
    assert run.result == {
        "calibrated_skills": {key: dict(zip(names, row, strict=True)) for key, row in first.items()},
        "count": 2,
    }
    the_ui_finds_the_runs_under_their_jobs(instance)
    night(platform)
    assert stored(platform) == first


def the_ui_finds_the_runs_under_their_jobs(instance: dg.DagsterInstance) -> None:
    """A job's page asks for this tag; the timeline leaves out runs without an origin."""
    ours = dg.RunsFilter(tags={".dagster/repository": "__repository__@bkt_pipeline"})
    runs = instance.get_runs(ours)
    assert sorted(run.job_name for run in runs) == ["active_skills_job", "calibration", "summaries"]
    assert [run.remote_job_origin.job_name for run in runs] == [run.job_name for run in runs]
    # A daemon must not retry a crashed run of the command, which has reported it.
    assert {run.tags["dagster/max_retries"] for run in runs} == {"0"}


def test_a_skipped_skill_does_not_fail_and_has_a_reason(
    platform: Platform, night, instance: dg.DagsterInstance
) -> None:
    enrol(platform, [80, 3])
    night(platform)
    key = str(platform.id(2))
    assert statuses(instance)[key] == "MATERIALIZED"
    event = latest(instance, key)
    assert event.metadata["outcome"].value == "skipped"
    assert event.metadata["reason"].value == "18 graded attempts in 30 days, fewer than 50"
    assert event.metadata["stored_row_calibrated_at"].value == "no row is stored yet"
    (check,) = [check for check in checks_of(instance, key) if check.asset_key == PARAMS]
    check_name = "skill_has_enough_attempts"
    assert (check.check_name, check.passed) == (check_name, False)
    assert check.severity == dg.AssetCheckSeverity.WARN
    of_neighbour = {check.check_name: check.passed for check in checks_of(instance, str(platform.id(1)))}
    assert of_neighbour == {check.name: True for check in (*SKILL_CHECKS, *WINDOW_CHECKS)}


def test_the_row_of_a_skipped_skill_is_not_changed(
    platform: Platform, night, instance: dg.DagsterInstance
) -> None:
    enrol(platform, [30])
    night(platform)
    before = stored(platform)
    later = AS_OF + dt.timedelta(days=90)
    run = night(platform, later)
    key = str(platform.id(1))
    assert outcomes(run) == {key: "skipped"}
    assert stored(platform) == before
    since = latest(instance, key).metadata["stored_row_calibrated_at"]
    assert isinstance(since, dg.TimestampMetadataValue)
    assert since.value < dt.datetime.now(dt.UTC).timestamp()


def test_only_the_failing_skill_fails_until_it_is_fixed(
    platform: Platform, night, instance: dg.DagsterInstance
) -> None:
    enrol(platform, [30, 30, 30])
    bad = str(platform.id(2))
    night(platform, AS_OF - dt.timedelta(hours=1), [str(platform.id(1))])
    refuse(platform, bad)
    run = night(platform)
    assert outcomes(run) == {
        str(platform.id(1)): "calibrated",
        bad: "failed",
        str(platform.id(3)): "calibrated",
    }
    assert set(stored(platform)) == {str(platform.id(1)), str(platform.id(3))}
    assert statuses(instance) == {
        str(platform.id(1)): "MATERIALIZED",
        bad: "FAILED",
        str(platform.id(3)): "MATERIALIZED",
    }
    with psycopg.connect(platform.url) as connection:
        connection.execute("ALTER TABLE skill_bkt_params DROP CONSTRAINT refused")
    night(platform, skills=[bad])
    assert set(statuses(instance).values()) == {"MATERIALIZED"}


def test_each_window_has_its_own_metadata_and_one_that_was_not_stored_fails(
    platform: Platform, night, instance: dg.DagsterInstance
) -> None:
    windows = enrol(platform, [30, 20, 30])
    first, second, bad = windows
    night(platform, AS_OF - dt.timedelta(hours=1), [first])
    with psycopg.connect(platform.url) as connection:
        refusal = "ALTER TABLE bkt_pipeline.attempt_windows ADD CONSTRAINT no_three CHECK (skill_id <> {})"
        connection.execute(sql.SQL(refusal).format(bad))
    run = night(platform)
    assert outcomes(run) == {first: "calibrated", second: "calibrated", bad: "failed"}
    for key in (PARAMS, WINDOW):
        assert statuses(instance, key) == {first: "MATERIALIZED", second: "MATERIALIZED", bad: "FAILED"}
    for key in (first, second):
        shown = {name: value.value for name, value in latest(instance, key, WINDOW).metadata.items()}
        window = windows[key]
        assert (shown["attempts"], shown["students"]) == (window.n_attempts, window.n_students)
        assert shown["success_rate"] == pytest.approx(window.responses.mean(), abs=1e-4)
        assert shown["distinct_sequences"] == calibrate(window).n_distinct
        newest = EPOCH + dt.timedelta(microseconds=int(window.answered_at.max()))
        assert shown["newest_attempt"] == newest.timestamp()
    events = instance.fetch_materializations(dg.AssetRecordsFilter(WINDOW, asset_partitions=[second]), 9)
    assert len(events.records) == 1, "there is another event besides the one with the metadata"

    alone = click(instance, [WINDOW], bad)
    assert not alone.success, "the run must fail, because nothing else in it reports the window"
    with psycopg.connect(platform.url) as connection:
        connection.execute("ALTER TABLE bkt_pipeline.attempt_windows DROP CONSTRAINT no_three")
    assert click(instance, [WINDOW], bad).success
    assert statuses(instance, WINDOW)[bad] == "MATERIALIZED"


def test_attempts_without_a_student_are_counted_and_left_out(
    make_platform: Callable[..., Platform], night, instance: dg.DagsterInstance
) -> None:
    platform = make_platform("bigint", "timestamp")
    whole, part = enrol(platform, [30, 30])
    with psycopg.connect(platform.url) as connection:
        connection.execute("ALTER TABLE attempts ALTER student_id DROP NOT NULL")
        connection.execute(
            "UPDATE attempts SET student_id = NULL WHERE item_id::text = %s AND student_id = %s",
            [part, platform.id(7)],
        )
    run = night(platform)
    assert [outcome.attempts for outcome in run.outcomes] == [180, 174]
    counted = [latest(instance, key, WINDOW).metadata["without_student"].value for key in (whole, part)]
    assert counted == [0, 6]


def test_one_run_can_cover_windows_parameters_and_items(
    platform: Platform, night, instance: dg.DagsterInstance
) -> None:
    key = next(iter(enrol(platform, [30])))
    night(platform)
    items = dg.AssetKey("item_irt_params")
    done = click(instance, [WINDOW, PARAMS, items], key)
    assert done.success
    assert not [event for event in done.all_events if event.is_step_skipped]
    assert statuses(instance, items) == {key: "MATERIALIZED"}


def click(instance: dg.DagsterInstance, assets: list[dg.AssetKey], key: str) -> dg.ExecuteInProcessResult:
    """Execute the run that the UI starts for one skill of these assets."""
    return (
        build_definitions()
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(
            instance=instance,
            asset_selection=assets,
            partition_key=key,
            tags=night_tags(AS_OF),
            raise_on_error=False,
        )
    )


def test_partitions_follow_the_active_skills(platform: Platform, night, instance: dg.DagsterInstance) -> None:
    enrol(platform, [30, 30])
    night(platform)
    with psycopg.connect(platform.url) as connection:
        connection.execute("UPDATE skills SET active = false WHERE id = %s", [platform.id(1)])
        connection.execute("INSERT INTO skills (id, active) VALUES (%s, true)", [platform.id(3)])
    run = night(platform)
    assert list(instance.get_dynamic_partitions("skill")) == [str(platform.id(2)), str(platform.id(3))]
    assert outcomes(run) == {str(platform.id(2)): "calibrated", str(platform.id(3)): "skipped"}


def test_no_active_skill_retires_nothing_and_fails(
    platform: Platform, night, instance: dg.DagsterInstance
) -> None:
    enrol(platform, [30])
    night(platform)
    with psycopg.connect(platform.url) as connection:
        connection.execute("UPDATE skills SET active = false")
    with pytest.raises(NightFailed, match="no active row"):
        night(platform)
    assert list(instance.get_dynamic_partitions("skill")) == [str(platform.id(1))]


def test_an_unknown_skill_is_named(platform: Platform, night) -> None:
    enrol(platform, [30])
    with pytest.raises(InvalidSettings, match="fractions"):
        night(platform, skills=["fractions"])


def test_only_the_chosen_skills_are_run_however_scattered(
    platform: Platform, night, instance: dg.DagsterInstance
) -> None:
    first, between, second, few, _, bad = enrol(platform, [30, 30, 30, 3, 30, 30])
    night(platform, AS_OF - dt.timedelta(days=1), [first])
    refuse(platform, bad)
    run = night(platform, skills=[bad, second, few, first])
    assert outcomes(run) == {first: "calibrated", second: "calibrated", few: "skipped", bad: "failed"}
    assert set(stored(platform)) == {first, second}
    tags = night_tags(AS_OF)
    runs = instance.get_runs(dg.RunsFilter(job_name="calibration", tags=tags))
    assert len(runs) == 3, "one run for each range of adjacent skills"
    shown = {key: status for key, status in statuses(instance).items() if status != "MISSING"}
    assert shown == {first: "MATERIALIZED", second: "MATERIALIZED", few: "MATERIALIZED", bad: "FAILED"}
    assert statuses(instance, dg.AssetKey("attempt_window"))[between] == "MISSING"


@pytest.mark.parametrize("storage", ["sqlite", "postgres"])
def test_any_set_of_skills_runs_on_dagsters_own_storage(
    platform: Platform,
    databases,
    dagster_template: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    storage: str,
) -> None:
    windows = enrol(platform, [30, 30, 30])
    first, _, last = windows
    config: dict[str, Any] = {"telemetry": {"enabled": False}}
    url = databases.create(dagster_template)
    if storage == "postgres":
        assert url.startswith("postgresql://"), "without a driver, as everyone writes it"
        config["storage"] = {"postgres": {"postgres_url": url}}
    (tmp_path / "dagster.yaml").write_text(json.dumps(config))  # JSON is YAML
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", platform.url)
    with dg.DagsterInstance.get() as other, open_database() as database:
        some = run_night(database, build_definitions(), other, AS_OF, [first, last], with_items=False)
        assert outcomes(some) == {first: "calibrated", last: "calibrated"}
        assert some.failed_runs == {}
        runs = {run.run_id for run in other.get_runs()}
    # What doctor advises then works.
    assert "class: PooledPostgresStorage" in (slow_to_start() or "")
    if storage == "postgres":
        (tmp_path / "dagster.yaml").write_bytes((PROJECT / "dagster.yaml").read_bytes())
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
        assert slow_to_start() is None
        with dagster_instance() as ours:
            assert {run.run_id for run in ours.get_runs()} == runs
    databases.drop(url)


def test_an_older_night_never_replaces_a_newer_one(
    platform: Platform, night, instance: dg.DagsterInstance
) -> None:
    enrol(platform, [30])
    night(platform, AS_OF + dt.timedelta(hours=1))
    newest = stored(platform)
    run = night(platform, AS_OF)
    assert outcomes(run) == {str(platform.id(1)): "overtaken"}
    assert stored(platform) == newest
    assert latest(instance, str(platform.id(1))).metadata["outcome"].value == "overtaken"


def test_a_reversed_range_fails_with_a_reason(
    platform: Platform, night, instance: dg.DagsterInstance
) -> None:
    enrol(platform, [30, 30])
    night(platform)
    first, last = instance.get_dynamic_partitions("skill")
    result = (
        build_definitions()
        .resolve_job_def("calibration")
        .execute_in_process(instance=instance, tags=range_tags(last, first), raise_on_error=False)
    )
    assert not result.success


def fingerprint(platform: Platform) -> list[Any]:
    statement = "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {} t"
    with psycopg.connect(platform.url) as connection:
        return [
            connection.execute(sql.SQL(statement).format(sql.Identifier(table))).fetchone()
            for table in ("skills", "items", "attempts")
        ]


def test_the_polished_estimator_publishes_the_continuous_optimum(
    platform: Platform, instance: dg.DagsterInstance, night
) -> None:
    window = enrol(platform, [60])[str(platform.id(1))]
    night(platform)
    (of_grid,) = stored(platform).values()
    done = (
        build_definitions()
        .resolve_job_def("calibration")
        .execute_in_process(
            instance=instance,
            partition_key=window.skill_id,
            run_config={
                "resources": {"settings": {"config": {"as_of": AS_OF.isoformat(), "estimator": "polished"}}}
            },
        )
    )
    assert done.success
    (row,) = stored(platform).values()
    polished = calibrate(window, polished=True).polished
    assert polished is not None
    assert row == (*polished.values, polished.log_likelihood)
    assert row[-1] > of_grid[-1]
    assert all(check.passed for check in checks_of(instance, window.skill_id) if check.severity == ERROR)
