"""Windows on S3, over real HTTP to a moto server."""

import datetime as dt
import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import boto3
import dagster as dg
import psycopg
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from bkt_pipeline.cli.main import main
from bkt_pipeline.db.database import open_database
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.night import NightRun, run_night
from bkt_pipeline.errors import InvalidSettings, WindowOvertaken, WindowStoreUnavailable, WindowUnusable
from bkt_pipeline.windows import s3 as s3_windows
from bkt_pipeline.windows.parquet import encode
from bkt_pipeline.windows.s3 import S3Windows, Version, object_name, parse_url
from bkt_pipeline.windows.s3_errors import explain
from bkt_pipeline.windows.store import StoredWindow
from bkt_pipeline_tests.conftest import AS_OF as NIGHT
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.schools import checks_of, enrol, outcomes, statuses, stored
from bkt_pipeline_tests.helpers.stored_windows import AS_OF, SECOND, get, put, window_of

DAY = dt.timedelta(days=1)
WINDOW = dg.AssetKey("attempt_window")


@pytest.fixture
def store(bucket: str) -> S3Windows:
    return S3Windows(bucket, "school/one")


def keys_in(bucket: str, below: str = "") -> list[str]:
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def test_there_is_one_object_per_skill(bucket: str, store: S3Windows) -> None:
    for days in range(3):
        put(store, *(window_of(f"skill {n}", [[True] * n], AS_OF + days * DAY) for n in range(1, 4)))
    assert sorted(keys_in(bucket)) == sorted(
        f"school/one/windows/{object_name(f'skill {n}')}.parquet" for n in range(1, 4)
    )


def test_other_tools_can_read_it(bucket: str, store: S3Windows) -> None:
    put(store, window_of("adding", [[True, False], [True]]))
    (key,) = keys_in(bucket)
    body = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    assert pq.read_table(io.BytesIO(body)).to_pylist() == [
        {"student_id": "s0000", "responses": [1, 0], "answered_at": [AS_OF, AS_OF]},
        {"student_id": "s0001", "responses": [1], "answered_at": [AS_OF]},
    ]


class Disturbed(S3Windows):
    """Something happens between the look at the stored version and the put that replaces it."""

    def __init__(self, bucket: str, *events: Callable[[], Any]) -> None:
        super().__init__(bucket, "school/one")
        self.events = iter(events)

    def _replace(self, key: str, version: Version | None, *content: Any) -> bool:
        for event in self.events:
            event()
            break
        return super()._replace(key, version, *content)


@pytest.mark.parametrize("has_earlier", [True, False])
@pytest.mark.parametrize("by", [-SECOND, 0 * SECOND, SECOND])
def test_of_two_runs_at_once_the_newer_as_of_stays(
    bucket: str, store: S3Windows, by: dt.timedelta, has_earlier: bool
) -> None:
    if has_earlier:
        put(store, window_of("a", [[True] * 5], AS_OF - DAY))
    mine, other = window_of("a", [[True]]), window_of("a", [[False]], AS_OF + by)
    disturbed = Disturbed(bucket, lambda: put(store, other, run_id="other"))
    result = put(disturbed, mine, run_id="mine")
    if by > 0 * SECOND:
        assert isinstance(result["a"], WindowOvertaken)
        assert store.load(["a"]) == {"a": StoredWindow(other, "other")}
    else:
        assert result == {}
        assert store.load(["a"]) == {"a": StoredWindow(mine, "mine")}
    assert len(keys_in(bucket)) == 1


def test_a_window_that_is_pruned_meanwhile_is_stored_anew(bucket: str, store: S3Windows) -> None:
    put(store, window_of("a", [[True]], AS_OF - DAY))
    new = window_of("a", [[False]])
    assert put(Disturbed(bucket, lambda: store.prune(AS_OF.date())), new) == {}
    assert get(store, "a") == {"a": new}


def test_a_window_that_is_replaced_meanwhile_is_not_pruned(bucket: str, store: S3Windows) -> None:
    put(store, window_of("a", [[True]], AS_OF - DAY))
    new = window_of("a", [[False]])

    class Slow(S3Windows):
        def _delete(self, key: str, **condition: str) -> None:
            put(store, new)
            super()._delete(key, **condition)

    assert Slow(bucket, "school/one").prune(AS_OF.date()) == 0
    assert get(store, "a") == {"a": new}


def test_a_window_that_is_replaced_meanwhile_is_forgotten_too(bucket: str, store: S3Windows) -> None:
    put(store, window_of("a", [[True]]), run_id="old")
    new = window_of("a", [[False], [True]], AS_OF + DAY)
    disturbed = Disturbed(bucket, lambda: put(store, new, run_id="new"))
    assert disturbed.forget("s0000") == 1
    (stored,) = store.load(["a"]).values()
    assert isinstance(stored, StoredWindow)
    assert (stored.run_id, stored.window.student_ids) == ("new", ("s0001",))


def test_a_skill_that_others_keep_replacing_fails_alone(bucket: str, store: S3Windows) -> None:
    others = [window_of("a", [[False] * n]) for n in range(1, s3_windows.MAX_TRIES + 1)]
    busy = Disturbed(bucket, *[partial(put, store, other) for other in others])
    result = put(busy, window_of("a", [[True]]))
    assert isinstance(result["a"], WindowUnusable)
    assert get(store, "a") == {"a": others[-1]}


class Killed(BaseException):
    """The end of the process."""


def die() -> None:
    raise Killed


def test_a_run_that_dies_before_its_put_has_changed_nothing(bucket: str, store: S3Windows) -> None:
    old, new = window_of("a", [[True]]), window_of("a", [[False, True]], AS_OF + DAY)
    put(store, old)
    with pytest.raises(Killed):
        Disturbed(bucket, die)._store_one(new, "dies")
    assert get(store, "a") == {"a": old}
    assert len(keys_in(bucket)) == 1


def test_a_lost_answer_is_not_a_lost_race(bucket: str, store: S3Windows) -> None:
    """The put arrives, the client does not hear of it and sends it again."""
    puts = []

    class Unheard(S3Windows):
        def _put(self, key: str, body: bytes, **options: Any) -> None:
            puts.append(key)
            super()._put(key, body, **options)
            super()._put(key, body, **options)

    for number, new in enumerate([window_of("a", [[True]]), window_of("a", [[False]], AS_OF + DAY)], start=1):
        assert put(Unheard(bucket, "school/one"), new) == {}
        assert get(store, "a") == {"a": new}
        assert len(puts) == number


@pytest.mark.parametrize(
    "work", [lambda store: store.prune(dt.date.min), lambda store: store.forget("s0000")]
)
def test_the_objects_of_the_earlier_layout_are_deleted(
    bucket: str, store: S3Windows, work: Callable[[S3Windows], int]
) -> None:
    s3 = boto3.client("s3")
    for name in ("heads/a-1.json", "data/a-1/20260301T070000Z-run-1.parquet"):
        s3.put_object(Bucket=bucket, Key=f"school/one/windows/{name}", Body=b"")
    s3.put_object(Bucket=bucket, Key="school/one/windows/notes.txt", Body=b"not ours")
    put(store, window_of("a", []))
    assert work(store) == 0
    assert sorted(keys_in(bucket)) == sorted(
        [f"school/one/windows/{object_name('a')}.parquet", "school/one/windows/notes.txt"]
    )


def test_prefixes_are_separate(bucket: str, store: S3Windows) -> None:
    other = S3Windows(bucket, "school/two")
    window = window_of("old", [[True]], AS_OF - 9 * DAY)
    put(store, window)
    put(other, window)
    assert store.prune(AS_OF.date()) == 1
    assert get(other, "old") == {"old": window}


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
    put(store, *school.values())
    assert get(store, *KEYS) == school
    for key in keys_in(bucket):
        assert len(key.encode()) < 300
        assert key.isascii()
        assert not set(key) & set(" \\?%")


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_two_skills_never_share_a_name(one: str, other: str) -> None:
    assert (object_name(one) == object_name(other)) == (one == other)


def test_the_longest_prefix_leaves_room_for_a_key(bucket: str) -> None:
    store = S3Windows(*parse_url(f"s3://{bucket}/{'p' * s3_windows.MAX_PREFIX}"))
    window = window_of(LONG, [[True]])
    put(store, window, run_id="8e5b9e7a-8c0e-4b7e-9b6c-5e0f3f6d1c2a")
    assert get(store, LONG) == {LONG: window}
    assert max(len(key.encode()) for key in keys_in(bucket)) <= 1024


@pytest.mark.parametrize("url", ["s3://bucket-a", "s3://bucket-a/", "s3://bucket-a/x", "s3://bucket-a/x/y/"])
def test_a_url_names_a_bucket_and_a_prefix(url: str) -> None:
    bucket, prefix = parse_url(url)
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
        parse_url(url)
    monkeypatch.setenv("DATABASE_URL", platform.url)
    monkeypatch.setenv("ATTEMPT_WINDOW_STORE", url)
    assert main(["doctor"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "ATTEMPT_WINDOW_STORE cannot be read" in line
    assert "hidden-word" not in line


def test_a_damaged_window_costs_only_its_own_skill(bucket: str, store: S3Windows) -> None:
    good = window_of("good", [[True]])
    put(store, *(window_of(key, [[True]]) for key in ("torn", "foreign", "other's")))
    put(store, good)
    s3, key_of = (
        boto3.client("s3"),
        {key: store._key_of(key) for key in ("good", "torn", "foreign", "other's")},
    )
    metadata = s3.head_object(Bucket=bucket, Key=key_of["torn"])["Metadata"]
    s3.put_object(Bucket=bucket, Key=key_of["torn"], Body=b"PAR1 but not much more", Metadata=metadata)
    s3.put_object(Bucket=bucket, Key=key_of["foreign"], Body=encode(StoredWindow(good, "run")))
    s3.put_object(
        Bucket=bucket, Key=key_of["other's"], Body=encode(StoredWindow(good, "run")), Metadata=metadata
    )
    loaded = store.load(list(key_of))
    assert loaded.pop("good") == StoredWindow(good, "run")
    assert set(loaded) == {"torn", "foreign", "other's"}
    for key, error in loaded.items():
        assert isinstance(error, WindowUnusable), key
        assert "materialise attempt_window" in str(error)
    with pytest.raises(WindowUnusable, match="is not a window"):
        store.forget("s0000")
    assert get(store, "good") == {"good": replace(window_of("good", []), ungraded=1)}
    with pytest.raises(WindowUnusable, match="is not a window of ours"):
        store.prune(dt.date.max)
    assert keys_in(bucket) == [key_of["foreign"]]


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
    assert event.asset_materialization.metadata["stored_in"].value == on_s3.location
    assert {check.passed for check in checks_of(instance, keys[0]) if check.asset_key == WINDOW}
    with psycopg.connect(here.url) as connection:
        assert connection.execute("SELECT count(*) FROM bkt_pipeline.attempt_windows").fetchone() == (0,)
    monkeypatch.delenv("ATTEMPT_WINDOW_STORE")
    night(there)
    assert stored(here) == stored(there)
    found = get(on_s3, *keys)
    with psycopg.connect(there.url) as connection:
        for key, window in found.items():
            rows = connection.execute(
                "SELECT student_id, answers FROM bkt_pipeline.attempt_window WHERE skill_id = %s ORDER BY 1",
                [key],
            ).fetchall()
            assert [student for student, _ in rows] == list(window.student_ids)
            assert "".join(answers for _, answers in rows) == "".join(map(str, window.responses))


def test_nothing_of_a_student_is_in_a_key_or_its_metadata(
    platform: Platform,
    night,
    on_s3: S3Windows,
    bucket: str,
) -> None:
    enrol(platform, [30])
    night(platform)
    (window,) = get(on_s3, str(platform.id(1))).values()
    assert window.n_students == 30
    (key,) = keys_in(bucket)
    metadata = boto3.client("s3").head_object(Bucket=bucket, Key=key)["Metadata"]
    assert set(metadata) == {"as-of", "token"}
    # The skill's own id is that of the first student too: platforms number from one.
    for student in set(window.student_ids) - {window.skill_id}:
        assert student not in f"{key} {metadata}"


def test_a_window_that_cannot_be_stored_fails_its_skill_alone(
    platform: Platform,
    night,
    on_s3: S3Windows,
    bucket: str,
) -> None:
    enrol(platform, [30, 30])
    bad, good = str(platform.id(1)), str(platform.id(2))
    key = f"school/one/windows/{object_name(bad)}.parquet"
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=b"somebody else's")
    run = night(platform)
    assert outcomes(run) == {bad: "failed", good: "calibrated"}
    (reason,) = [outcome.reason for outcome in run.outcomes if outcome.outcome == "failed"]
    assert reason is not None
    assert reason.startswith("its window was not stored")
    assert key in reason


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        ({"ATTEMPT_WINDOW_STORE": "s3://no-such-bucket/x"}, "there is no bucket no-such-bucket"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "S3 cannot be reached"),
        ({"AWS_ACCESS_KEY_ID": None}, "NoCredentialsError"),
    ],
)
def test_where_no_window_can_be_kept_one_line_reports_what_to_do(
    platform: Platform,
    on_s3: S3Windows,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    failure: dict[str, str | None],
    says: str,
) -> None:
    enrol(platform, [30, 30])
    monkeypatch.setenv("DATABASE_URL", platform.url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in failure.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    assert main(["nightly"]) == 2
    nightly = [line for line in capfd.readouterr().err.splitlines() if line.startswith("bkt-pipeline")]
    assert main(["doctor"]) == 1
    doctor = [line for line in capfd.readouterr().out.splitlines() if line.startswith("fails")]
    for (line,) in (nightly, doctor):
        assert "windows cannot be kept at s3://" in line
        assert says in line


def test_a_refused_role_learns_what_it_needs() -> None:
    """moto refuses no role; this is the answer that S3 gives."""
    refused = ClientError({"Error": {"Code": "AccessDenied", "Message": "…"}}, "GetObject")
    failure = explain(refused, "bucket-a", "s3://bucket-a/x")
    assert isinstance(failure, WindowStoreUnavailable)
    assert "AccessDenied at GetObject" in str(failure)
    assert "deploy/aws/iam/run.json" in str(failure)


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
    assert f"{on_s3.location}, which can be read and written" in capfd.readouterr().out
    assert main(["prune", "--nights", "1"]) == 0
    assert "and 1 windows" in capfd.readouterr().out
    assert set(get(on_s3, str(platform.id(1)), str(platform.id(2)))) == {str(platform.id(2))}


def test_doctor_reports_windows_in_postgres(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", platform.url)
    enrol(platform, [20])
    assert main(["doctor"]) == 0
    assert "bkt_pipeline.attempt_window, which can be read and written" in capfd.readouterr().out
