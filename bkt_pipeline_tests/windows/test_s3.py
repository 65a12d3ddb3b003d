"""Windows on S3, over real HTTP to a moto server."""

import datetime as dt
import io
import json
from collections.abc import Callable
from typing import Any

import boto3
import dagster as dg
import psycopg
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bkt_pipeline.cli.main import main
from bkt_pipeline.db.database import open_database
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.night import NightRun, run_night
from bkt_pipeline.errors import InvalidSettings, WindowStoreUnavailable, WindowUnusable
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.windows import s3 as s3_windows
from bkt_pipeline.windows.s3 import Head, S3Windows, Standing, name_of, place_of
from bkt_pipeline_tests.conftest import AS_OF as NIGHT
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.schools import checks_of, enrol, outcomes, statuses, stored
from bkt_pipeline_tests.helpers.stored_windows import AS_OF, SECOND, window_of, windows

DAY = dt.timedelta(days=1)
WINDOW = dg.AssetKey("attempt_window")


@pytest.fixture
def store(bucket: str) -> S3Windows:
    return S3Windows(bucket, "school/one")


def keys_in(bucket: str, below: str = "") -> list[str]:
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def put_all(store: S3Windows, *of_skills: AttemptWindow, run_id: str = "run") -> None:
    assert list(store.store({window.skill_id: window for window in of_skills}, run_id)) == []


@given(window=windows())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_stored_is_loaded_back_exactly(store: S3Windows, window: AttemptWindow) -> None:
    put_all(store, window)
    assert store.load([window.skill_id]) == {window.skill_id: window}


def test_there_is_one_parquet_object_a_partition(bucket: str, store: S3Windows) -> None:
    for days in range(3):
        put_all(store, *(window_of(f"skill {n}", [[True] * n], AS_OF + days * DAY) for n in range(1, 4)))
    objects = keys_in(bucket)
    assert len([key for key in objects if key.endswith(".parquet")]) == 3
    assert len([key for key in objects if key.endswith(".json")]) == 3
    assert len(objects) == 6
    assert all(key.startswith("school/one/windows/") for key in objects)


def test_other_tools_can_read_it(bucket: str, store: S3Windows) -> None:
    put_all(store, window_of("adding", [[True, False], [True]]))
    (key,) = [key for key in keys_in(bucket) if key.endswith(".parquet")]
    body = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    assert pq.read_table(io.BytesIO(body)).to_pylist() == [
        {"student_id": "s0000", "responses": [1, 0], "answered_at": [AS_OF, AS_OF]},
        {"student_id": "s0001", "responses": [1], "answered_at": [AS_OF]},
    ]


def test_a_range_of_windows_is_stored_and_loaded(store: S3Windows) -> None:
    school = {
        f"skill-{n:04}": window_of(f"skill-{n:04}", [[bool(n % 2)] * (n % 5)] if n % 5 else [])
        for n in range(60)
    }
    assert list(store.store(school, "run")) == []
    assert store.load([*school, "never stored"]) == school


def test_an_older_window_never_replaces_a_newer_one(bucket: str, store: S3Windows) -> None:
    newer, older = window_of("a", [[True]]), window_of("a", [[False]], AS_OF - SECOND)
    put_all(store, newer)
    before = keys_in(bucket)
    assert not store.store_one(older, "late")
    assert store.load(["a", "never stored"]) == {"a": newer}
    assert keys_in(bucket) == before
    again = window_of("a", [[False, False]])
    assert store.store_one(again, "same moment, later")
    assert store.load(["a"]) == {"a": again}


class Disturbed(S3Windows):
    """Something happens between the look at the head and its put."""

    def __init__(self, bucket: str, happens: Callable[[], Any]) -> None:
        super().__init__(bucket, "school/one")
        self.happens = iter([happens])

    def _commit(self, head_key: str, head: Head, standing: Standing | None) -> bool:
        for happens in self.happens:
            happens()
        return super()._commit(head_key, head, standing)


@pytest.mark.parametrize("stood_before", [True, False])
@pytest.mark.parametrize("by", [-SECOND, 0 * SECOND, SECOND])
def test_of_two_runs_at_once_the_newer_as_of_stands(
    bucket: str, store: S3Windows, by: dt.timedelta, stood_before: bool
) -> None:
    if stood_before:
        put_all(store, window_of("a", [[True] * 5], AS_OF - DAY))
    mine, other = window_of("a", [[True]]), window_of("a", [[False]], AS_OF + by)
    disturbed = Disturbed(bucket, lambda: put_all(store, other, run_id="other"))
    assert disturbed.store_one(mine, "mine") == (by <= 0 * SECOND)
    assert store.load(["a"]) == {"a": other if by > 0 * SECOND else mine}
    assert len(keys_in(bucket)) == 2, "the loser's object is deleted"


class Killed(BaseException):
    """Stands for the end of the process."""


def die() -> None:
    raise Killed


def test_a_run_that_dies_after_its_upload_has_changed_nothing(bucket: str, store: S3Windows) -> None:
    old, new = window_of("a", [[True]]), window_of("a", [[False, True]], AS_OF + DAY)
    put_all(store, old)
    with pytest.raises(Killed):
        Disturbed(bucket, die).store_one(new, "dies")
    assert len(keys_in(bucket)) == 3
    assert store.load(["a"]) == {"a": old}
    assert store.prune(dt.date.min) == 0
    assert len(keys_in(bucket)) == 3, "what is fresh may still be committed"
    put_all(store, new, run_id="the next run")
    assert store.load(["a"]) == {"a": new}


def test_what_a_dead_run_has_left_is_deleted_a_day_later(
    bucket: str, store: S3Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_all(store, window_of("a", [[True]]))
    with pytest.raises(Killed):
        Disturbed(bucket, die).store_one(window_of("b", [[True]]), "dies")
    monkeypatch.setattr(s3_windows, "LEFT_BEHIND", dt.timedelta(seconds=-5))
    assert store.prune(dt.date.min) == 0
    assert [key for key in keys_in(bucket) if "data/b-" in key] == []
    assert set(store.load(["a", "b"])) == {"a"}


def test_an_answer_that_was_lost_is_no_lost_race(bucket: str, store: S3Windows) -> None:
    """The head has arrived, the client has not heard of it and puts it again."""
    new = window_of("a", [[True]])

    class Unheard(S3Windows):
        def _commit(self, head_key: str, head: Head, standing: Standing | None) -> bool:
            assert super()._commit(head_key, head, standing)
            return super()._commit(head_key, head, standing)

    assert Unheard(bucket, "school/one").store_one(new, "run")
    assert store.load(["a"]) == {"a": new}


def test_a_reader_that_is_overtaken_reads_the_newer_window(bucket: str, store: S3Windows) -> None:
    old, new = window_of("a", [[True]]), window_of("a", [[False]], AS_OF + DAY)
    put_all(store, old)

    class Slow(S3Windows):
        overtaken = False

        def _standing(self, head_key: str) -> Standing | None:
            found = super()._standing(head_key)
            if not self.overtaken:
                self.overtaken = True
                put_all(store, new)
            return found

    assert Slow(bucket, "school/one").load(["a"]) == {"a": new}


def test_pruning_lets_old_windows_go_and_keeps_the_rest(bucket: str, store: S3Windows) -> None:
    put_all(store, window_of("old", [[True]], AS_OF - 9 * DAY), window_of("new", [[True]], AS_OF))
    other = S3Windows(bucket, "school/two")
    put_all(other, window_of("old", [[True]], AS_OF - 9 * DAY))
    assert store.prune((AS_OF - DAY).date()) == 1
    assert set(store.load(["old", "new"])) == {"new"}
    assert set(other.load(["old"])) == {"old"}
    assert len(keys_in(bucket)) == 4


LONG = "é☃/" * 333
KEYS = [
    "a/b",
    "a-b",
    "a b",
    "a",
    "A",
    "á",
    "a\u0301",
    "a//b",
    "/a",
    "a/",
    "../a",
    "a\\b",
    "a?b",
    "a%2Fb",
    "☃",
    LONG,
    LONG + "x",
]


def test_every_partition_key_has_a_safe_key_of_its_own(bucket: str, store: S3Windows) -> None:
    school = {key: window_of(key, [[True] * number]) for number, key in enumerate(KEYS, start=1)}
    put_all(store, *school.values())
    assert store.load(KEYS) == school
    for key in keys_in(bucket):
        assert len(key.encode()) < 300
        assert key.isascii()
        assert not set(key) & set(" \\?%")


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_two_skills_never_share_a_name(one: str, other: str) -> None:
    assert (name_of(one) == name_of(other)) == (one == other)


def test_the_longest_prefix_leaves_room_for_a_key(bucket: str) -> None:
    store = S3Windows(*place_of(f"s3://{bucket}/{'p' * s3_windows.LONGEST_PREFIX}"))
    window = window_of(LONG, [[True]])
    put_all(store, window, run_id="8e5b9e7a-8c0e-4b7e-9b6c-5e0f3f6d1c2a")
    assert store.load([LONG]) == {LONG: window}
    assert max(len(key.encode()) for key in keys_in(bucket)) <= 1024


@pytest.mark.parametrize("url", ["s3://bucket-a", "s3://bucket-a/", "s3://bucket-a/x", "s3://bucket-a/x/y/"])
def test_a_url_names_a_bucket_and_a_prefix(url: str) -> None:
    bucket, prefix = place_of(url)
    assert f"s3://{bucket}/{prefix}".rstrip("/") == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "bucket-a/x",
        "s3:/bucket-a/x",
        "s3://",
        "s3:///x",
        "s3://AKIA:hidden-word@bucket-a/x",
        "s3://bucket-a/x?key=hidden-word",
        "https://bucket-a.s3.amazonaws.com/x",
        f"s3://bucket-a/{'p' * 701}",
    ],
)
def test_another_url_is_refused_without_being_quoted(
    url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], platform: Platform
) -> None:
    with pytest.raises(InvalidSettings, match="expected s3://bucket/prefix"):
        place_of(url)
    monkeypatch.setenv("DATABASE_URL", platform.url)
    monkeypatch.setenv("ATTEMPT_WINDOW_STORE", url)
    assert main(["doctor"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "ATTEMPT_WINDOW_STORE cannot be read" in line
    assert "hidden-word" not in line


def test_a_damaged_window_costs_only_its_own_skill(bucket: str, store: S3Windows) -> None:
    good = window_of("good", [[True]])
    put_all(store, good, window_of("gone", [[True]]), window_of("torn", [[True]]), window_of("odd", [[True]]))
    s3 = boto3.client("s3")
    for key in keys_in(bucket):
        if "data/gone-" in key:
            s3.delete_object(Bucket=bucket, Key=key)
        elif "data/torn-" in key:
            s3.put_object(Bucket=bucket, Key=key, Body=b"PAR1 but not much more")
        elif "heads/odd-" in key:
            s3.put_object(Bucket=bucket, Key=key, Body=b"{}")
    loaded = store.load(["good", "gone", "torn", "odd"])
    assert loaded.pop("good") == good
    assert set(loaded) == {"gone", "torn", "odd"}
    for key, said in loaded.items():
        assert isinstance(said, WindowUnusable), key
        assert "materialise attempt_window" in str(said)


# --------------------------------------------------------------------------------------------------------
# Nights


@pytest.fixture
def night(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Callable[..., NightRun]:
    def run(platform: Platform, as_of: dt.datetime = NIGHT) -> NightRun:
        monkeypatch.setenv("DATABASE_URL", platform.url)
        with open_database() as database:
            return run_night(database, build_definitions(), instance, as_of, with_items=False)

    return run


@pytest.fixture
def on_s3(bucket: str, monkeypatch: pytest.MonkeyPatch) -> S3Windows:
    monkeypatch.setenv("ATTEMPT_WINDOW_STORE", f"s3://{bucket}/school/one")
    return S3Windows(bucket, "school/one")


def test_a_night_with_its_windows_on_s3_stores_the_same_parameters(
    make_platform: Callable[[], Platform],
    night,
    on_s3: S3Windows,
    instance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = make_platform(), make_platform()
    for platform in (here, there):
        enrol(platform, [30, 30, 3])
    run = night(here)
    assert set(outcomes(run).values()) == {"calibrated", "skipped"}
    keys = list(outcomes(run))
    assert set(statuses(instance).values()) == {"MATERIALIZED"}
    (event,) = instance.fetch_materializations(WINDOW, 1).records
    assert event.asset_materialization.metadata["stored_in"].value == on_s3.where
    assert {check.passed for check in checks_of(instance, keys[0]) if check.asset_key == WINDOW}
    with psycopg.connect(here.url) as connection:
        assert connection.execute("SELECT count(*) FROM bkt_pipeline.attempt_windows").fetchone() == (0,)
    monkeypatch.delenv("ATTEMPT_WINDOW_STORE")
    night(there)
    assert stored(here) == stored(there)
    found = on_s3.load(keys)
    with psycopg.connect(there.url) as connection:
        for key, window in found.items():
            rows = connection.execute(
                "SELECT student_id, answers FROM bkt_pipeline.attempt_window WHERE skill_id = %s ORDER BY 1",
                [key],
            ).fetchall()
            assert [student for student, _ in rows] == list(window.student_ids)
            assert "".join(answers for _, answers in rows) == "".join(map(str, window.responses))


def test_nothing_of_a_student_is_in_a_key_or_a_head(
    platform: Platform,
    night,
    on_s3: S3Windows,
    bucket: str,
) -> None:
    enrol(platform, [30])
    night(platform)
    (window,) = on_s3.load([str(platform.id(1))]).values()
    heads = [key for key in keys_in(bucket) if "/heads/" in key]
    s3 = boto3.client("s3")
    told = [s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in heads]
    assert json.loads(told[0])["students"] == 30
    # The skill's own id is that of the first student too: platforms number from one.
    strangers = [student for student in window.student_ids if student != window.skill_id]
    for student in strangers:
        assert student not in "\n".join([*keys_in(bucket), *told])
    for key in keys_in(bucket):
        assert s3.head_object(Bucket=bucket, Key=key)["Metadata"] == {}


def test_a_window_that_cannot_be_stored_fails_its_skill_alone(
    platform: Platform,
    night,
    on_s3: S3Windows,
    bucket: str,
) -> None:
    enrol(platform, [30, 30])
    bad, good = str(platform.id(1)), str(platform.id(2))
    head = f"school/one/windows/heads/{name_of(bad)}.json"
    boto3.client("s3").put_object(Bucket=bucket, Key=head, Body=b"somebody else's")
    run = night(platform)
    assert outcomes(run) == {bad: "failed", good: "calibrated"}
    (reason,) = [outcome.reason for outcome in run.outcomes if outcome.outcome == "failed"]
    assert reason is not None
    assert reason.startswith("its window was not stored")
    assert head in reason


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ({"ATTEMPT_WINDOW_STORE": "s3://no-such-bucket/x"}, "there is no bucket no-such-bucket"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "S3 cannot be reached"),
        ({"AWS_ACCESS_KEY_ID": None}, "NoCredentialsError"),
    ],
)
def test_where_no_window_can_be_kept_one_line_says_what_to_do(
    platform: Platform,
    on_s3: S3Windows,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    trouble: dict[str, str | None],
    says: str,
) -> None:
    enrol(platform, [30, 30])
    monkeypatch.setenv("DATABASE_URL", platform.url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in trouble.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    for command in ("nightly", "doctor"):
        capfd.readouterr()
        assert main([command]) == 2
        (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("bkt-pipeline")]
        assert "windows cannot be kept at s3://" in line
        assert says in line


def test_a_role_that_may_not_is_told_what_it_needs(on_s3: S3Windows) -> None:
    """moto refuses nobody; this is the answer that S3 gives."""
    refused = ClientError({"Error": {"Code": "AccessDenied", "Message": "…"}}, "GetObject")
    trouble = on_s3._trouble(refused)
    assert isinstance(trouble, WindowStoreUnavailable)
    assert "AccessDenied at GetObject" in str(trouble)
    assert "deploy/aws/iam/run.json" in str(trouble)


def test_doctor_and_prune_know_the_store(
    platform: Platform,
    night,
    on_s3: S3Windows,
    capfd: pytest.CaptureFixture[str],
    bucket: str,
) -> None:
    enrol(platform, [30])
    night(platform)
    with psycopg.connect(platform.url) as connection:
        connection.execute("UPDATE skills SET active = false")
        connection.execute("INSERT INTO skills (id, active) VALUES (%s, true)", [platform.id(2)])
    night(platform, NIGHT + DAY)
    assert main(["doctor"]) == 0
    assert f"{on_s3.where}, which can be read" in capfd.readouterr().out
    assert main(["prune", "--nights", "1"]) == 0
    assert "and 1 windows" in capfd.readouterr().out
    assert set(on_s3.load([str(platform.id(1)), str(platform.id(2))])) == {str(platform.id(2))}


def test_windows_in_postgres_are_said_to_be_there(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", platform.url)
    assert main(["doctor"]) == 0
    assert "bkt_pipeline.attempt_window" in capfd.readouterr().out
