"""Whole nights by Dagster's daemon in separate processes, and a backfill as the UI starts it."""

import datetime as dt
import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml
from psycopg import sql

from bkt_pipeline.defs.resources import CalibrationSettings
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.deployment import BIN, WORKSPACE, Deployment, last_tick, let_a_near_tick_pass
from bkt_pipeline_tests.helpers.schools import enrol, shift, statuses, stored
from bkt_pipeline_tests.helpers.state import torn


@pytest.fixture
def deploy(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Deployment]]:
    let_a_near_tick_pass()
    made: list[Deployment] = []

    def deploy(platform: Platform, **environment: str) -> Deployment:
        environment = {"DATABASE_URL": platform.url, **environment}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        made.append(Deployment(instance, tmp_path, environment))
        return made[-1]

    yield deploy
    for deployment in made:
        deployment.stop_all()


def refuse_row_of(platform: Platform, key: str) -> None:
    """Make one skill fail through a constraint on the platform's table."""
    statement = "ALTER TABLE skill_bkt_params ADD CONSTRAINT refused CHECK (skill_id <> {})"
    with psycopg.connect(platform.url) as connection:
        connection.execute(sql.SQL(statement).format(key))


def make_target(platform: Platform) -> None:
    from bkt_pipeline.db.database import open_database

    open_database().close()


def test_two_nights_from_tick_to_item_calibration(
    platform: Platform, deploy: Callable[..., Deployment], instance: dg.DagsterInstance
) -> None:
    tick = last_tick(dt.datetime.now(dt.UTC))
    windows = enrol(platform, [30, 30, 3])
    shift(platform, tick - dt.timedelta(days=3))
    deployment = deploy(platform, BKT_SKILLS_PER_RUN="2")
    make_target(platform)
    good, bad, small = windows
    refuse_row_of(platform, bad)
    deployment.start_daemon()
    deployment.turn_schedule_back(tick - dt.timedelta(minutes=1))

    # The first night: one skill fails, one has too little data, one is calibrated.
    deployment.start_daemon()
    deployment.wait_for("the summary of the first night", lambda: finished(deployment, "summaries") == 1)
    assert Counter(run.job_name for run in instance.get_runs()) == {
        "active_skills_job": 1,
        "calibration": 2,
        "nightly_irt": 2,
        "summaries": 1,
    }
    for run in instance.get_runs():
        assert run.tags["bkt/night"] == tick.date().isoformat()
        assert dt.datetime.fromisoformat(run.tags["bkt/as_of"]) == tick
    for irt in deployment.runs("nightly_irt"):
        assert (irt.tags["bkt/calibrated"], irt.tags["bkt/failed"]) == ("1", "1")
    assert stored_items(platform) == {good: ("provisional", 180, tick)}
    items = dg.AssetKey("item_irt_params")
    assert statuses(instance, items) == dict.fromkeys(windows, "MATERIALIZED")
    assert materialisations(instance, items) == dict.fromkeys(windows, 1)
    assert statuses(instance) == {good: "MATERIALIZED", bad: "FAILED", small: "MATERIALIZED"}
    assert set(stored(platform)) == {good}
    assert ledger(platform, tick) == {good: "calibrated", bad: "failed", small: "skipped"}

    # The second night, started by hand: one skill was added, two were retired, and the failed one is fixed.
    with psycopg.connect(platform.url) as connection:
        connection.execute("ALTER TABLE skill_bkt_params DROP CONSTRAINT refused")
        connection.execute("UPDATE skills SET active = false WHERE id::text = ANY (%s)", [[good, small]])
        connection.execute("INSERT INTO skills (id, active) VALUES (%s, true)", [platform.id(4)])
    launch_night(deployment)
    deployment.wait_for("the summary of the second night", lambda: finished(deployment, "summaries") == 2)
    new = str(platform.id(4))
    assert statuses(instance) == {bad: "MATERIALIZED", new: "MATERIALIZED"}
    newest = max(deployment.runs("nightly_irt"), key=lambda run: run.tags["bkt/as_of"])
    second = dt.datetime.fromisoformat(newest.tags["bkt/as_of"])
    assert ledger(platform, second) == {bad: "calibrated", new: "skipped"}
    assert set(stored(platform)) == {good, bad}
    assert len(deployment.runs("active_skills_job")) == 2
    assert len(deployment.runs("calibration")) == 3
    assert len(deployment.runs("nightly_irt")) == 3
    assert set(stored_items(platform)) == {good, bad}
    assert (newest.tags["bkt/calibrated"], newest.tags["bkt/failed"]) == ("1", "0")


def test_a_killed_deployment_finishes_the_night_once_after_a_restart(
    platform: Platform, deploy: Callable[..., Deployment], instance: dg.DagsterInstance
) -> None:
    """The daemon and all its children are killed together, like a container, while parameters are being stored."""
    keys = enrol(platform, [20] * 8)
    shift(platform, dt.datetime.now(dt.UTC))
    deployment = deploy(platform)
    make_target(platform)
    with psycopg.connect(platform.url, autocommit=True) as owner:
        # Slows the run down, so that it can be killed half-way.
        owner.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(1); RETURN new; END $$;"
            "CREATE TRIGGER dawdle BEFORE INSERT ON skill_bkt_params"
            " FOR EACH ROW EXECUTE FUNCTION dawdle()"
        )
        daemon = deployment.start_daemon()
        launch_night(deployment)

        def in_the_middle() -> bool:
            row = owner.execute("SELECT count(*) FROM bkt_pipeline.attempt_windows").fetchone()
            return row == (len(keys),)

        deployment.wait_for("all windows", in_the_middle)
        deployment.running.remove(daemon)
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()
        owner.execute("DROP TRIGGER dawdle ON skill_bkt_params")
    assert torn(platform.url) == {}
    assert len(stored(platform)) < len(keys)
    deployment.start_daemon()
    deployment.wait_for("item calibration of the night", lambda: finished(deployment, "nightly_irt") == 1)
    ticks = len(irt_ticks(instance))
    deployment.wait_for("two more looks of the sensor", lambda: len(irt_ticks(instance)) >= ticks + 2)
    assert len(deployment.runs("nightly_irt")) == 1
    assert statuses(instance) == dict.fromkeys(keys, "MATERIALIZED")
    assert set(stored(platform)) == set(keys)
    assert torn(platform.url) == {}
    deployment.wait_for("the summary's end", lambda: all(run.is_finished for run in instance.get_runs()))


def test_a_partial_backfill_and_the_launchpad_work_as_in_the_ui(
    platform: Platform, deploy: Callable[..., Deployment], instance: dg.DagsterInstance
) -> None:
    keys = list(enrol(platform, [30, 30, 30, 30]))
    shift(platform, dt.datetime.now(dt.UTC))
    deployment = deploy(platform)
    make_target(platform)
    instance.add_dynamic_partitions("skill", keys)
    deployment.start_daemon()
    port = free_port()
    deployment.start(BIN / "dagster-webserver", "-p", str(port), "-w", WORKSPACE)
    ask = asker(port)
    deployment.wait_for("the webserver", lambda: ask("{ version }") is not None)

    launched = ask(
        """mutation ($params: LaunchBackfillParams!) {
            launchPartitionBackfill(backfillParams: $params) {
                __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
            }
        }""",
        params={
            "assetSelection": [{"path": ["attempt_window"]}, {"path": ["skill_bkt_params"]}],
            "partitionNames": [keys[1], keys[2]],
        },
    )
    assert launched["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", launched
    deployment.wait_for("the two chosen skills", lambda: len(stored(platform)) == 2)
    deployment.wait_for("the run's end", lambda: all(run.is_finished for run in instance.get_runs()))
    assert set(stored(platform)) == {keys[1], keys[2]}
    assert len(instance.get_runs()) == 1, "adjacent skills share a run"
    assert {key for key, status in statuses(instance).items() if status == "MATERIALIZED"} == {
        keys[1],
        keys[2],
    }

    # The launchpad shows every setting with its default and its description.
    job = {"repositoryLocationName": "bkt_pipeline", "repositoryName": "__repository__"}
    pad = ask(
        """query ($job: PipelineSelector!) { runConfigSchemaOrError(selector: $job, mode: "default") {
            ... on RunConfigSchema { rootDefaultYaml allConfigTypes {
                ... on CompositeConfigType { fields { name description } }
            } }
        } }""",
        job={**job, "pipelineName": "calibration"},
    )["runConfigSchemaOrError"]
    filled_in = yaml.safe_load(pad["rootDefaultYaml"])["resources"]["settings"]["config"]
    # The other settings come from the environment until somebody types them.
    assert filled_in == {"as_of": "", "publish": True}
    described = {
        field["name"]: field["description"]
        for kind in pad["allConfigTypes"]
        for field in kind.get("fields", [])
    }
    assert all(described[name] for name in CalibrationSettings.model_fields)

    # Values entered there take effect, and one that a run could not use is refused before there is a run.
    def launch(**asked: object) -> Any:
        return ask(
            """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
                __typename ... on PythonError { message } ... on RunConfigValidationInvalid { errors { message } }
            } }""",
            params={
                "selector": {
                    **job,
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": [{"path": ["attempt_window"]}, {"path": ["skill_bkt_params"]}],
                },
                "runConfigData": {"resources": {"settings": {"config": filled_in | asked}}},
                "executionMetadata": {"tags": [{"key": "dagster/partition", "value": keys[0]}]},
            },
        )["launchRun"]

    runs = len(instance.get_runs())
    refused = launch(window_days=0)
    assert refused["__typename"] == "PythonError"
    assert "window_days is 0; it must be greater than or equal to 1" in refused["message"]
    assert len(instance.get_runs()) == runs
    typed = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(hours=1)
    launched = launch(as_of=typed.isoformat(), min_attempts=1000)
    assert launched["__typename"] == "LaunchRunSuccess", launched
    deployment.wait_for("the run as it was asked", lambda: ledger(platform, typed) == {keys[0]: "skipped"})


def launch_night(deployment: Deployment) -> None:
    """Start a night by hand."""
    subprocess.run(
        [BIN / "dagster", "job", "launch", "-w", WORKSPACE, "-j", "active_skills_job"],
        env=deployment.environment,
        cwd=deployment.folder,
        check=True,
        capture_output=True,
    )


def finished(deployment: Deployment, job: str) -> int:
    return sum(run.status == dg.DagsterRunStatus.SUCCESS for run in deployment.runs(job))


def ledger(platform: Platform, night: dt.datetime) -> dict[str, str]:
    with psycopg.connect(platform.url) as connection:
        return dict(
            connection.execute(
                "SELECT skill_id, outcome FROM bkt_pipeline.night_skills WHERE as_of = %s", [night]
            ).fetchall()
        )


def stored_items(platform: Platform) -> dict[str, tuple[Any, ...]]:
    with psycopg.connect(platform.url) as connection:
        rows = connection.execute(
            "SELECT item_id, status, n_attempts, as_of FROM bkt_pipeline.item_irt_params WHERE irt_a IS NOT NULL"
        ).fetchall()
    return {row[0]: row[1:] for row in rows}


def materialisations(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, int]:
    records = instance.fetch_materializations(key, limit=100).records
    return Counter(record.partition_key for record in records)


def irt_ticks(instance: dg.DagsterInstance) -> list[Any]:
    (state,) = [state for state in instance.all_instigator_state() if state.instigator_name == "nightly_irt"]
    return list(instance.get_ticks(state.instigator_origin_id, state.selector_id))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def asker(port: int) -> Callable[..., Any]:
    """Sends queries to the webserver's GraphQL endpoint; None while it does not answer."""

    def ask(query: str, **variables: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)["data"]
        except OSError:
            return None

    return ask
