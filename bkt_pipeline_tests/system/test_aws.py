"""deploy/aws over real HTTP to a moto server: a night whose shards are ECS tasks, with logs and windows in S3."""

import datetime as dt
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import dagster as dg
import psycopg
import pytest
import requests
import yaml

from bkt_pipeline.cli.main import main
from bkt_pipeline.db.database import open_database
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.night import run_night
from bkt_pipeline.errors import EmbeddedPostgresError, InvalidSettings
from bkt_pipeline.instance.runs import PROCESS_TAG, is_dead, process_tag
from bkt_pipeline.instance.storage import embedded_dsn
from bkt_pipeline.settings import settings
from bkt_pipeline.windows.postgres import PostgresWindows
from bkt_pipeline.windows.s3 import S3Windows
from bkt_pipeline_tests.conftest import PROJECT, Databases, Platform, database_of
from bkt_pipeline_tests.helpers.deployment import let_a_near_tick_pass
from bkt_pipeline_tests.helpers.ecs import (
    AWS,
    PARTS,
    Account,
    allows,
    as_list,
    metadata_endpoint,
    recording,
    rendered,
)
from bkt_pipeline_tests.helpers.schools import enrol, shift, stored
from bkt_pipeline_tests.helpers.stored_windows import get, put, window_of

TIMEOUT = 300  # seconds; a busy machine starts processes slowly
README = (AWS / "README.md").read_text()
VALUES = dict.fromkeys(
    ("AWS_ACCOUNT", "AWS_REGION", "BUCKET", "REPOSITORY", "VERSION", "DATABASE_SECRET", "DAGSTER_SECRET"), "x"
)


def definition_of(part: str) -> dict[str, object]:
    return dict(rendered(f"task-definitions/{part}.json", **VALUES))


def variables_of(part: str) -> set[str]:
    (container,) = rendered(f"task-definitions/{part}.json", **VALUES)["containerDefinitions"]
    return {pair["name"] for pair in (*container["environment"], *container["secrets"])}


def test_every_variable_of_the_instance_is_documented_and_set() -> None:
    named = {
        name
        for file in ("dagster.yaml", "workspace.yaml")
        for name in re.findall(r"env: (\w+)", (AWS / file).read_text())
    }
    assert named == {"BKT_LOG_BUCKET", "BKT_RUN_TASK_DEFINITION", "BKT_CODE_HOST"}
    for part in PARTS:
        for name in variables_of(part):
            assert f"`{name}`" in README, (part, name)
    for name in named | {"DAGSTER_POSTGRES_URL"}:
        assert all(name in variables_of(part) for part in ("daemon", "webserver", "run")), name
    for part in ("run", "code"):
        assert "DATABASE_URL" in variables_of(part)


def test_a_secret_is_never_a_plain_variable() -> None:
    for part in PARTS:
        (container,) = rendered(f"task-definitions/{part}.json", **VALUES)["containerDefinitions"]
        assert not {pair["name"] for pair in container["environment"]} & {
            "DATABASE_URL",
            "DAGSTER_POSTGRES_URL",
        }


def test_the_aws_instance_differs_from_the_local_one_only_where_intended() -> None:
    """Only the run launcher, the logs and the time limits differ, by design: tasks keep every event in their logs."""
    here, there = (
        yaml.safe_load(path.read_text()) for path in (PROJECT / "dagster.yaml", AWS / "dagster.yaml")
    )
    assert set(there) - set(here) == {"run_launcher", "compute_logs"}
    differing = {name for name in here if here[name] != there.get(name)}
    assert differing == {"concurrency", "run_monitoring", "python_logs"}


def test_the_image_contains_every_file_that_it_needs() -> None:
    """Every copied file exists and is not ignored, and no copied link points at a file that is not copied."""
    lines = (PROJECT / "deploy/Dockerfile").read_text().splitlines()
    copied = [
        words[1:-1] for words in map(str.split, lines) if words[:1] == ["COPY"] and "--from" not in words[1]
    ]
    sources = [source for words in copied for source in words]
    ignored_but = (PROJECT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    assert [
        source for source in sources if f"!{source}" not in ignored_but or not (PROJECT / source).exists()
    ] == []
    whole = [PROJECT / source for source in sources]
    for link in (path for path in (PROJECT / "bkt_pipeline").rglob("*") if path.is_symlink()):
        assert link.resolve() in whole, link


def test_every_file_is_in_the_readme() -> None:
    for path in AWS.rglob("*"):
        if path.is_file() and path.name != "README.md":
            stem = f"{path.parent.name}/" if path.parent != AWS else ""
            assert f"{stem}{path.name}" in README or f"{stem}$part.json" in README, path


def test_a_run_on_ecs_never_counts_as_dead_because_of_its_process() -> None:
    """Two containers may share a host name but have separate pid namespaces."""
    gone = {PROCESS_TAG: f"{process_tag()[PROCESS_TAG].split()[0]} 999999999 then"}
    assert is_dead(dg.DagsterRun(job_name="calibration", tags=gone))
    assert not is_dead(dg.DagsterRun(job_name="calibration", tags=gone | {"ecs/task_arn": "arn:aws:ecs:…"}))


def test_a_task_without_its_secrets_is_refused_and_calibrates_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4/x")
    assert main(["nightly"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "DATABASE_URL is not set in this ECS task" in line
    with pytest.raises(EmbeddedPostgresError, match="DAGSTER_POSTGRES_URL is not set in this ECS task"):
        embedded_dsn()


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("", {}),
        ("ecs/cpu=2048 ecs/memory=8192", {"ecs/cpu": "2048", "ecs/memory": "8192"}),
        ("a=b=c", {"a": "b=c"}),
    ],
)
def test_shard_runs_carry_the_configured_tags(
    monkeypatch: pytest.MonkeyPatch, value: str, tags: dict[str, str]
) -> None:
    monkeypatch.setenv("BKT_SHARD_TAGS", value)
    assert settings().shard_tags == tags


@pytest.mark.parametrize("value", ["ecs/cpu", "=2048", "ecs/cpu="])
def test_invalid_shard_tags_are_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BKT_SHARD_TAGS", value)
    with pytest.raises(InvalidSettings, match="BKT_SHARD_TAGS is "):
        settings()


# --------------------------------------------------------------------------------------------------------
# A night


@pytest.fixture
def account(
    bucket: str,
    aws: str,
    databases: Databases,
    dagster_template: str,
    platform: Platform,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Account]:
    requests.post(
        f"{aws}/moto-api/state-manager/set-transition",
        # Otherwise moto reports a task as stopped after five requests.
        data=json.dumps({"model_name": "ecs::task", "transition": {"progression": "manual", "times": 10**9}}),
        timeout=10,
    )
    folder = tmp_path / "opt-dagster"
    folder.mkdir()
    dagster_url = databases.create(dagster_template)
    with metadata_endpoint() as metadata_url:
        account = Account.set_up(folder, metadata_url, bucket, platform.url, dagster_url)
        yield account
        account.stop_all()
    databases.drop(dagster_url)


def test_a_night_of_ecs_tasks_stores_the_same_as_a_night_in_one_process(
    account: Account,
    aws: str,
    bucket: str,
    platform: Platform,
    databases: Databases,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = list(enrol(platform, [30, 40, 3]))
    shift(platform, dt.datetime.now(dt.UTC))
    monkeypatch.setenv("DATABASE_URL", platform.url)
    open_database().close()
    here = databases.create(database_of(platform.url))
    # Windows of an earlier night, which must be replaced.
    older = window_of(keys[0], [[True]], dt.datetime.now(dt.UTC) - dt.timedelta(days=1))
    assert put(S3Windows(bucket, "bkt"), older, run_id="an earlier run") == {}

    with recording(aws) as asked, on_ecs(account, monkeypatch) as there:
        as_of = a_night(account, there)
        shards = list(there.get_runs(dg.RunsFilter(job_name="calibration")))
        as_the_webserver_does(account, there, shards[0].run_id, monkeypatch)

    # Each shard ran as a separate task of the size in its tags.
    assert sorted(run.tags["bkt/shard"] for run in shards) == ["1 of 2", "2 of 2"]
    assert len({run.tags["ecs/task_arn"] for run in shards}) == 2
    for run in shards:
        task = account.task(run.tags["ecs/task_arn"])
        (override,) = task["overrides"]["containerOverrides"]
        assert (task["overrides"]["cpu"], task["overrides"]["memory"]) == ("2048", "8192")
        assert override["command"][:3] == ["dagster", "api", "execute_run"]
        assert len(json.dumps(task["overrides"])) < 8192, "ECS accepts at most 8192 bytes"
        assert platform.url not in json.dumps(task), "an override contains a secret"
        assert {"key": "bkt/shard", "value": run.tags["bkt/shard"]} in task["tags"]

    # Their logs are in the bucket.
    for run in shards:
        (log, *_) = account.logs_of(run.run_id)
        assert b"attempt_window" in boto3.client("s3").get_object(Bucket=bucket, Key=log)["Body"].read()

    # The same night in one process with windows in Postgres, on a copy of the platform.
    in_process = Platform(here, "uuid", "timestamptz")
    monkeypatch.setenv("DATABASE_URL", here)
    with open_database() as database:
        run_night(database, build_definitions(), instance, as_of, with_items=False)
        windows = get(PostgresWindows(database.run), *keys)
    assert set(stored(in_process)) == set(keys[:2])
    assert stored(platform) == stored(in_process)
    assert get(S3Windows(bucket, "bkt"), *keys) == windows
    with psycopg.connect(platform.url) as connection:
        assert connection.execute("SELECT count(*) FROM bkt_pipeline.attempt_windows").fetchone() == (0,)
    databases.drop(here)

    # Each part made only requests that its policy allows, and the policy allows little else.
    refused = [who for who in asked if not allows(account.policies.get(who[0], []), *who[1:])]
    assert sorted(set(refused)) == []
    unseen = {
        part: {action for statement in account.policies[part] for action in as_list(statement["Action"])}
        - {action for who, action, _ in asked if who == part}
        for part in ("run", "daemon", "webserver")
    }
    assert {part: actions for part, actions in unseen.items() if actions} == UNSEEN


# Requests that say so cannot be seen here: what AWS looks up on its own (the roles and tags of a task; whether one
# who asks for a missing object may know that it is missing), and what is done only when a task has died.
UNSEEN = {
    "run": {"s3:ListBucket"},
    "daemon": {"iam:PassRole", "ecs:TagResource", "ecs:StopTask", "logs:GetLogEvents"},
}


@contextmanager
def on_ecs(account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The instance of deploy/aws/dagster.yaml as the parts use it, with the webserver's role."""
    with monkeypatch.context() as patch:
        for name, value in account.environment_of("webserver").items():
            patch.setenv(name, value)
        # boto3's shared session keeps the first credentials that it finds.
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        with dg.DagsterInstance.from_config(str(account.folder)) as there:
            yield there


def a_night(account: Account, there: dg.DagsterInstance) -> dt.datetime:
    """Start the services, start a night by hand, and wait for its shards; returns its as_of."""
    let_a_near_tick_pass()
    account.run_task("code", *account.code_command(), BKT_SKILLS_PER_RUN="2")
    account.run_task("daemon")
    wait_for(account, there, "the code location", account.code_answers)
    account.run_task("run", "dagster", "job", "launch", "-j", "active_skills_job")

    def done() -> bool:
        runs = there.get_runs(dg.RunsFilter(job_name="calibration"))
        return len(runs) == 2 and all(run.is_finished for run in runs)

    wait_for(account, there, "two shards", done)
    runs = there.get_runs()
    assert Counter((run.job_name, run.status) for run in runs if run.is_finished) == {
        ("active_skills_job", dg.DagsterRunStatus.SUCCESS): 1,
        ("calibration", dg.DagsterRunStatus.SUCCESS): 2,
    }
    account.stop_all()
    (as_of,) = {run.tags["bkt/as_of"] for run in runs if run.job_name == "calibration"}
    return dt.datetime.fromisoformat(as_of)


def as_the_webserver_does(
    account: Account, there: dg.DagsterInstance, run_id: str, patch: pytest.MonkeyPatch
) -> None:
    """Show a run's log, and terminate a run."""
    (key, *_) = account.logs_of(run_id)
    log_key = key.removeprefix("logs/storage/").rpartition(".")[0].split("/")
    shutil.rmtree(account.folder / "compute_logs")
    assert b"attempt_window" in (there.compute_log_manager.get_log_data(log_key).stderr or b"")
    lasting = account.run_task("run", "sleep", "1000")
    tags = {"ecs/task_arn": lasting, "ecs/cluster": "bkt"}
    run = there.add_run(dg.DagsterRun(job_name="lasting", status=dg.DagsterRunStatus.STARTED, tags=tags))
    assert there.run_launcher.terminate(run.run_id)
    assert account.task(lasting)["lastStatus"] == "STOPPED"


def wait_for(account: Account, there: dg.DagsterInstance, what: str, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not happened():
        account.start_what_is_asked_for()
        if time.monotonic() > deadline:
            runs = [(run.job_name, run.status.value, run.tags) for run in there.get_runs()]
            raise AssertionError(f"{what}: not within {TIMEOUT} s\n{runs}\n{account.output()}")
        time.sleep(0.5)
