"""The checks in Dagster's storage after nights on a real instance and real databases."""

import datetime as dt
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from psycopg import sql

from bkt_pipeline import model
from bkt_pipeline.calibration.night_checks import NIGHT_CHECKS
from bkt_pipeline.calibration.skill_checks import SKILL_CHECKS
from bkt_pipeline.calibration.window_checks import WINDOW_CHECKS
from bkt_pipeline.db.database import open_database
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.night import NightRun, run_night
from bkt_pipeline.instance.event_batch import EventBatch
from bkt_pipeline.instance.event_log import BatchingEventLogStorage, batched_events, our_event_log
from bkt_pipeline.model import AttemptWindow, SkillFit, log_likelihood
from bkt_pipeline_tests.conftest import AS_OF, TIMESTAMP_TYPES, Platform
from bkt_pipeline_tests.helpers.schools import (
    PARAMS,
    checks_of,
    enrol,
    latest,
    next_id,
    outcomes,
    statuses,
    stored,
)

LATER = AS_OF + dt.timedelta(hours=24)


def found(instance: dg.DagsterInstance, key: str, name: str) -> Any:
    """The latest evaluation of the check for the partition."""
    return next(check for check in checks_of(instance, key) if check.check_name == name)


def test_every_check_is_evaluated_for_every_partition(
    platform: Platform, night: Callable[..., NightRun], instance: dg.DagsterInstance
) -> None:
    enrol(platform, [40, 40])
    night(platform)
    for number in (1, 2):
        key = str(platform.id(number))
        of_key = checks_of(instance, key)
        assert {check.check_name for check in of_key} == {
            check.name for check in (*SKILL_CHECKS, *WINDOW_CHECKS)
        }
        materialised = instance.get_latest_storage_id_by_partition(
            PARAMS, dg.DagsterEventType.ASSET_MATERIALIZATION, {key}
        )
        of_params = [check for check in of_key if check.asset_key == PARAMS]
        assert {check.target_materialization_data.storage_id for check in of_params} == {materialised[key]}


def test_an_invalid_calibration_is_not_published(
    platform: Platform,
    night: Callable[..., NightRun],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The search stops beside the maximum for one of two skills."""
    enrol(platform, [40, 40])
    good, bad = str(platform.id(1)), str(platform.id(2))
    night(platform)
    before = stored(platform)
    right = model.calibrate_all

    def stops_short(windows: Mapping[str, AttemptWindow], **options: Any) -> Iterator[tuple[str, SkillFit]]:
        for key, fit in right(windows, **options):
            assert isinstance(fit, SkillFit)
            if key == bad:
                beside = replace(fit.params, p_slip=fit.params.p_slip + 0.05)
                beside = replace(beside, log_likelihood=log_likelihood(windows[key], beside))
                fit = replace(fit, params=beside)
            yield key, fit

    monkeypatch.setattr(model, "calibrate_all", stops_short)
    run = night(platform, LATER)
    assert outcomes(run) == {good: "calibrated", bad: "failed"}
    (reason,) = [outcome.reason for outcome in run.outcomes if outcome.skill_id == bad]
    assert reason is not None
    assert reason.startswith("not published, because it fails log_likelihood_is_grid_maximum (actual ")
    assert stored(platform)[bad] == before[bad]
    assert statuses(instance) == {good: "MATERIALIZED", bad: "FAILED"}
    check = found(instance, bad, "log_likelihood_is_grid_maximum")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert check.target_materialization_data is None
    assert check.metadata["what_to_do"].value.startswith("the row was not replaced")
    monkeypatch.undo()


def test_a_row_that_a_trigger_changes_is_not_published(
    platform: Platform, night: Callable[..., NightRun], instance: dg.DagsterInstance
) -> None:
    """A trigger on the platform's table rounds the values."""
    enrol(platform, [40])
    night(platform)
    before = stored(platform)
    with psycopg.connect(platform.url) as connection:
        connection.execute(
            """
            CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql
                AS 'BEGIN NEW.p_slip := 0.42; RETURN NEW; END';
            CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON skill_bkt_params
                FOR EACH ROW EXECUTE FUNCTION meddle();
            """
        )
    (outcome,) = night(platform, LATER).outcomes
    assert outcome.outcome == "failed"
    assert "skill_bkt_params holds p_slip 0.42 after" in str(outcome.reason)
    assert stored(platform) == before


@pytest.mark.parametrize("timestamp_type", TIMESTAMP_TYPES)
def test_future_attempts_are_reported_and_left_out(
    make_platform: Callable[..., Platform],
    night: Callable[..., NightRun],
    instance: dg.DagsterInstance,
    timestamp_type: str,
) -> None:
    platform = make_platform("bigint", timestamp_type)
    enrol(platform, [40])
    to_come = dt.datetime.now(dt.UTC) + dt.timedelta(hours=5)
    if platform.timestamp_type == "timestamp":
        to_come = to_come.replace(tzinfo=None)
    with psycopg.connect(platform.url) as connection:
        connection.execute(
            "INSERT INTO attempts (id, student_id, item_id, is_correct, created_at) VALUES (%s, %s, %s, true, %s)",
            [platform.id(next_id()), platform.id(1), platform.id(1), to_come],
        )
    run = night(platform)
    check = found(instance, str(platform.id(1)), "no_future_attempts")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert check.metadata["actual"].value == 1
    assert [outcome.attempts for outcome in run.outcomes] == [240]


def test_changes_since_last_night_are_shown(
    platform: Platform, night: Callable[..., NightRun], instance: dg.DagsterInstance
) -> None:
    enrol(platform, [40])
    key = str(platform.id(1))
    night(platform)
    with psycopg.connect(platform.url) as connection:
        # As if there had been four more nights since, each with the same result.
        connection.execute(
            """
            INSERT INTO bkt_pipeline.skill_fits
            SELECT (jsonb_populate_record(f, jsonb_build_object('night', night + n, 'as_of', as_of + n * interval '1 day'))).*
            FROM bkt_pipeline.skill_fits f, generate_series(1, 4) n
            """
        )
    night(platform, AS_OF + dt.timedelta(days=5))
    shown = latest(instance, key).metadata
    assert [shown[f"{name}_change"].value for name in ("p_l0", "p_transit", "p_slip", "p_guess")] == [0.0] * 4
    assert shown["p_slip_low"].value < shown["p_slip_high"].value
    family = found(instance, key, "log_likelihood_is_in_family")
    assert family.passed
    assert family.metadata["nights"].value == 5
    assert "last_night_less_margin" in found(instance, key, "log_likelihood_holds_out").metadata


def test_batched_events_equal_those_dagster_writes_one_by_one(
    platform: Platform,
    night: Callable[..., NightRun],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    enrol(platform, [40, 40, 3, 3])
    night(platform)
    # Dagster writes the events of a batch that fails one by one, and says so here only.
    assert "Falling back" not in capfd.readouterr().err
    together = kept(instance)
    monkeypatch.setattr(
        BatchingEventLogStorage, "batched_events", lambda self, run_id: nullcontext(EventBatch(list))
    )
    night(platform)
    one_by_one = kept(instance)
    one_by_one.subtract(together)
    assert one_by_one == together
    evaluations = 4 * len(WINDOW_CHECKS) + 2 * len(SKILL_CHECKS) + 2 + len(NIGHT_CHECKS)
    assert sum(count for row, count in together.items() if row[0] == "check") == evaluations


def test_dagster_postgres_own_storage_gets_the_same_events(
    platform: Platform, night: Callable[..., NightRun], instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    enrol(platform, [40, 3])
    night(platform)
    before = kept(instance)
    folder = tmp_path / "plain"
    folder.mkdir()
    url = instance.event_log_storage.postgres_url
    (folder / "dagster.yaml").write_text(f"storage:\n  postgres:\n    postgres_url: {url}\n")
    with dg.DagsterInstance.from_config(str(folder)) as plain, open_database() as database:
        storage = plain.event_log_storage
        assert not isinstance(storage, BatchingEventLogStorage)
        with our_event_log(plain):
            outer = storage.store_event
            with batched_events(plain, "a run"):
                assert storage.store_event not in (outer, storage.store_event_batch)
            assert storage.store_event == outer
        assert storage.store_event.__self__ is storage
        run_night(database, build_definitions(), plain, AS_OF, with_items=False)
    after = kept(instance)
    after.subtract(before)
    assert after == before


def kept(instance: dg.DagsterInstance) -> Counter[tuple[Any, ...]]:
    """The contents of Dagster's tables, without what differs from run to run."""
    with psycopg.connect(instance.event_log_storage.postgres_url.replace("+psycopg2", "")) as connection:
        events = connection.execute(
            "SELECT dagster_event_type, step_key, asset_key, partition, event FROM event_logs "
            "WHERE dagster_event_type LIKE 'ASSET%'"
        ).fetchall()
        events = [("event", *row, row[-1] and _constant(event)) for *row, event in events]
        checks = connection.execute(
            "SELECT 'check', c.asset_key, c.check_name, c.partition, c.execution_status, m.dagster_event_type, m.partition, "
            "c.run_id = e.run_id, c.evaluation_event_timestamp = e.timestamp, c.evaluation_event = e.event "
            "FROM asset_check_executions c "
            "JOIN event_logs e ON e.id = c.evaluation_event_storage_id "
            "LEFT JOIN event_logs m ON m.id = c.materialization_event_storage_id "
            # dagster-postgres's own storage also keeps the planned checks of skills that then have none.
            "WHERE c.execution_status <> 'PLANNED'"
        ).fetchall()
    return Counter([*events, *checks])


def _constant(event: str) -> str:
    """An event's text without ids, times and durations."""
    changing = {
        "timestamp",
        "run_id",
        "storage_id",
        "pid",
    }

    def kept_of(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("label") == "fit_milliseconds":
                return None
            return {name: kept_of(inner) for name, inner in value.items() if name not in changing}
        return [kept_of(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(kept_of(json.loads(event)))


def test_no_event_or_log_contains_student_data(
    make_platform: Callable[..., Platform],
    night: Callable[..., NightRun],
    instance: dg.DagsterInstance,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A whole night with one skipped skill and one that the database refuses."""
    platform = make_platform("text")
    windows = enrol(platform, [40, 40, 3], lengths=30)
    failing = platform.id(2)
    with psycopg.connect(platform.url) as connection:
        connection.execute("CREATE TABLE students (id text, name text)")
        connection.execute("UPDATE attempts SET student_id = 'Ada Lovelace ' || md5(student_id) || ' of 7b'")
        students = [row[0] for row in connection.execute("SELECT DISTINCT student_id FROM attempts")]
    night(platform)
    with psycopg.connect(platform.url) as connection:
        refusal = "DELETE FROM {0} WHERE skill_id = {1}; ALTER TABLE {0} ADD CHECK (skill_id <> {1})"
        for table in ("skill_bkt_params", "bkt_pipeline.attempt_window"):
            name = sql.Identifier(*table.split("."))
            connection.execute(sql.SQL(refusal).format(name, sql.Literal(failing)))
    night(platform, LATER)
    with open_database() as database:
        run_night(database, build_definitions(), instance, LATER, [str(platform.id(1))], log_events=True)
    with psycopg.connect(instance.event_log_storage.postgres_url.replace("+psycopg2", "")) as connection:
        events = [row[0] for row in connection.execute("SELECT event FROM event_logs")]
        events += [
            row[0] for row in connection.execute("SELECT evaluation_event FROM asset_check_executions")
        ]
        events += [row[0] for row in connection.execute("SELECT run_body FROM runs")]
    assert any("data:image/svg+xml" in event for event in events)
    assert any("STEP_FAILURE" in event for event in events)
    everything = "\n".join([*events, *capfd.readouterr(), caplog.text])
    revealed = [student for student in students if student in everything or student.split()[2] in everything]
    assert revealed == []
    assert "Lovelace" not in everything
    for window in windows.values():
        for begin, end in itertools.pairwise(window.offsets):
            answers = [str(answer) for answer in window.responses[begin:end]]
            assert not any(separator.join(answers) in everything for separator in ("", " ", ",", ", "))
