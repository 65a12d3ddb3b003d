"""What is kept of one student is deleted, and of the others nothing."""

import psycopg
import pytest

from bkt_pipeline.cli.main import main
from bkt_pipeline.db.database import open_database
from bkt_pipeline.windows.store import window_store
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.state import torn
from bkt_pipeline_tests.helpers.stored_windows import get, put, window_of


def test_a_student_is_forgotten_in_every_window(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", platform.url)
    windows = {
        "fractions": window_of("fractions", [[True, False], [True], [False]]),
        "ratios": window_of("ratios", [[True], [False, False]]),
        "shapes": window_of("shapes", [[True]]),
    }
    with open_database() as database:
        store = window_store(database.run)
        put(store, *windows.values())
        assert main(["forget", "--student", "s0001"]) == 0
        printed = capfd.readouterr()
        assert printed.out == "deleted the answers of the student from 2 windows\n"
        assert "s0001" not in printed.out + printed.err
        left = get(store, *windows)
    assert {key: window.student_ids for key, window in left.items()} == {
        "fractions": ("s0000", "s0002"),
        "ratios": ("s0000",),
        "shapes": ("s0000",),
    }
    assert left["fractions"].responses.tolist() == [1, 0, 0]
    assert "a window whose rows are not those that its head counts" not in torn(platform.url)
    assert main(["forget", "--student", "s0001"]) == 0
    assert capfd.readouterr().out == "deleted the answers of the student from 0 windows\n"


def test_a_student_is_forgotten_in_every_spelling_that_the_platform_takes_for_the_same(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", platform.url)
    with psycopg.connect(platform.url) as connection:
        connection.execute("CREATE EXTENSION citext; ALTER TABLE attempts ALTER student_id TYPE citext")
    windows = [window_of(key, [[True], [True, False]]) for key in ("fractions", "ratios")]
    with open_database() as database:
        store = window_store(database.run)
        put(store, *windows)
        with psycopg.connect(platform.url) as connection:
            connection.execute(
                "UPDATE bkt_pipeline.attempt_window SET student_id = upper(student_id) WHERE skill_id = 'ratios'"
            )
        assert main(["forget", "--student", "S0001"]) == 0
        assert capfd.readouterr().out == "deleted the answers of the student from 2 windows\n"
        left = get(store, "fractions", "ratios")
    assert [window.student_ids for window in left.values()] == [("s0000",), ("S0000",)]
