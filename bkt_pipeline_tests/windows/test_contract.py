"""The contract of `windows/store.py`, held against every kind of store."""

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bkt_pipeline.db.connection import make_engine
from bkt_pipeline.db.retry import retrying
from bkt_pipeline.errors import WindowOvertaken
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.windows.postgres import PostgresWindows
from bkt_pipeline.windows.s3 import S3Windows
from bkt_pipeline.windows.store import StoredWindow, WindowStore
from bkt_pipeline_tests.helpers.stored_windows import AS_OF, SECOND, get, put, window_of, windows

DAY = dt.timedelta(days=1)
FUTURE = dt.datetime.now(dt.UTC) + 365 * DAY


@pytest.fixture(params=["postgres", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest) -> Iterator[WindowStore]:
    if request.param == "s3":
        yield S3Windows(request.getfixturevalue("bucket"), "school/one")
        return
    engine = make_engine(request.getfixturevalue("own_tables"))
    yield PostgresWindows(partial(retrying, engine))
    engine.dispose()


@given(window=windows())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_stored_is_loaded_back_exactly(store: WindowStore, window: AttemptWindow) -> None:
    assert put(store, window, run_id="this run") == {}
    assert store.load([window.skill_id]) == {window.skill_id: StoredWindow(window, "this run")}


def test_many_windows_are_stored_and_loaded(store: WindowStore) -> None:
    school = {
        f"skill-{n:04}": window_of(f"skill-{n:04}", [[bool(n % 2)] * (n % 5)] if n % 5 else [])
        for n in range(230)
    }
    assert list(store.store(school, "run")) == []
    assert get(store, *school, "never stored") == school


def test_nothing_stored_is_nothing_loaded(store: WindowStore) -> None:
    assert list(store.store({}, "run")) == []
    assert store.load([]) == {}
    assert store.load(["never stored"]) == {}
    assert store.forget("s0000") == 0
    assert store.prune(dt.date.max) == 0


def test_a_newer_window_replaces_all_of_the_old_one(store: WindowStore) -> None:
    kept = window_of("b", [[False]])
    put(store, window_of("a", [[True, False], [True]]), kept)
    fresh = window_of("a", [[False]], AS_OF + SECOND)
    assert put(store, fresh) == {}
    assert get(store, "a", "b") == {"a": fresh, "b": kept}


def test_an_older_window_is_reported_as_overtaken_and_the_others_are_stored(store: WindowStore) -> None:
    newer, older = window_of("a", [[True]]), window_of("a", [[False]], AS_OF - SECOND)
    other = window_of("b", [[True]], AS_OF - SECOND)
    put(store, newer, run_id="newer")
    (result,) = put(store, older, other, run_id="older").items()
    assert result[0] == "a"
    assert isinstance(result[1], WindowOvertaken)
    assert store.load(["a", "b"]) == {"a": StoredWindow(newer, "newer"), "b": StoredWindow(other, "older")}


def test_a_window_is_identified_by_everything_that_made_it(store: WindowStore) -> None:
    """Runs with the same as_of and other settings: the last is stored, and a reader can tell whose it is."""
    window = window_of("a", [[True]])
    versions = [
        window,
        replace(window, window_days=12),
        replace(window, sequences="from_first_answer"),
        window,
    ]
    for number, version in enumerate(versions):
        assert put(store, version, run_id=f"run {number}") == {}
        assert store.load(["a"]) == {"a": StoredWindow(version, f"run {number}")}
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert versions[one] != versions[other]


MOMENTS = [AS_OF - DAY, AS_OF, AS_OF + SECOND, FUTURE, FUTURE + DAY]


@given(nights=st.lists(st.sampled_from(MOMENTS), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_newest_that_is_not_in_the_future_stays(store: WindowStore, nights: list[dt.datetime]) -> None:
    store.prune(dt.date.max)
    kept: tuple[dt.datetime, str] | None = None
    for number, as_of in enumerate(nights):
        refused = put(store, window_of("a", [[True] * (number + 1)], as_of), run_id=str(number))
        if kept is None or as_of >= kept[0] or kept[0] >= FUTURE:
            kept = (as_of, str(number))
            assert refused == {}
        else:
            assert isinstance(refused["a"], WindowOvertaken)
        stored = store.load(["a"])["a"]
        assert isinstance(stored, StoredWindow)
        assert (stored.window.as_of, stored.run_id) == kept


def test_of_runs_at_once_the_newest_stays_and_none_fails(store: WindowStore) -> None:
    keys = [f"skill-{n:03}" for n in range(40)]

    def run(hours: int) -> list[Exception]:
        as_of = AS_OF + dt.timedelta(hours=hours)
        ordered = reversed(keys) if hours % 2 else keys
        school = {key: window_of(key, [[True] * (hours + 1)] * 20, as_of) for key in ordered}
        return [error for _, error in store.store(school, f"run {hours}")]

    with ThreadPoolExecutor(4) as pool:
        failed = [error for errors in pool.map(run, [2, 0, 3, 1]) for error in errors]
    assert [error for error in failed if not isinstance(error, WindowOvertaken)] == []
    newest = AS_OF + dt.timedelta(hours=3)
    assert store.load(keys) == {
        key: StoredWindow(window_of(key, [[True] * 4] * 20, newest), "run 3") for key in keys
    }


def test_pruning_deletes_older_days_and_nothing_else(store: WindowStore) -> None:
    midnight = AS_OF.replace(hour=0)
    before, at = window_of("before", [[True]], midnight - SECOND), window_of("at", [[True]], midnight)
    put(store, before, at, window_of("long before", [], AS_OF - 9 * DAY))
    assert store.prune(AS_OF.date()) == 2
    assert get(store, "before", "at", "long before") == {"at": at}
    assert store.prune(AS_OF.date()) == 0


def test_forgetting_deletes_one_student_from_every_window(store: WindowStore) -> None:
    put(
        store,
        window_of("first", [[True, False], [False], [True]]),
        window_of("last", [[True], [False, True]]),
        window_of("alone", [[True]]),
        window_of("without", []),
        run_id="night",
    )
    assert store.forget("s0001") == 2
    assert store.forget("s0000") == 3
    assert store.forget("s0000") == 0
    assert store.forget("nobody") == 0
    loaded = store.load(["first", "last", "alone", "without"])
    whole = replace(window_of("first", [[True]]), student_ids=("s0002",), ungraded=3)
    assert loaded.pop("first") == StoredWindow(whole, "night")
    for key, ungraded in (("last", 2), ("alone", 1), ("without", 0)):
        assert loaded[key] == StoredWindow(replace(window_of(key, []), ungraded=ungraded), "night")


def test_checking_access_changes_nothing(store: WindowStore) -> None:
    window = window_of("a", [[True]])
    put(store, window)
    store.check_access()
    assert get(store, "a", "bkt-pipeline access check") == {"a": window}
    assert store.prune(dt.date.max) == 1


def test_the_location_is_a_place_that_people_can_read(store: WindowStore) -> None:
    assert store.location.endswith(("/school/one", "bkt_pipeline.attempt_window"))
