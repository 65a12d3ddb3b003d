"""When the embedded school is used in the place of a platform, and when that is refused."""

import os
from pathlib import Path

import dagster as dg
import pytest

from bkt_pipeline.cli.main import main
from bkt_pipeline.db.database import connect, open_database
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.embedded.fallback import choose_demo_without_platform
from bkt_pipeline.embedded.home import configured_platform, note_platform
from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.instance.storage import embedded_name
from bkt_pipeline.settings import settings
from bkt_pipeline_tests.conftest import Platform


@pytest.fixture
def platform_was_used(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which a night has run with DATABASE_URL, which is then missing."""
    monkeypatch.setenv("DATABASE_URL", platform.url)
    open_database().close()
    monkeypatch.delenv("DATABASE_URL")


def test_a_process_that_was_not_asked_for_the_demo_refuses(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"^DATABASE_URL is not set: .*BKT_DEMO=1[^\n]*$"):
        connect()
    assert not (tmp_path / "home").exists()


def test_a_run_of_a_daemon_fails_with_that_line(instance: dg.DagsterInstance) -> None:
    job = build_definitions().resolve_job_def("active_skills_job")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert "DATABASE_URL is not set: set DATABASE_URL" in failed.step_failure_data.error.to_string()
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags["bkt/database"] == "none"


@pytest.mark.parametrize("url", ["", "  "])
def test_a_command_is_the_demo_only_before_a_platform_was_used(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    choose_demo_without_platform()
    assert settings().demo is True
    monkeypatch.delenv("BKT_DEMO")
    monkeypatch.setenv("DATABASE_URL", platform.url)
    open_database().close()
    monkeypatch.setenv("DATABASE_URL", url)
    choose_demo_without_platform()
    assert settings().demo is None


@pytest.mark.usefixtures("platform_was_used")
@pytest.mark.parametrize("command", [["nightly"], ["doctor"], ["migrate"], ["ui", "--port", "1"]])
def test_a_command_refuses_in_one_line_once_a_platform_was_used(
    capfd: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main(command) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "this machine has used the platform" in line
    assert "set DATABASE_URL" in line
    assert "BKT_DEMO=1" in line


@pytest.mark.usefixtures("platform_was_used")
def test_the_demo_can_be_asked_for_all_the_same(
    monkeypatch: pytest.MonkeyPatch, server_home: Path, server_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BKT_PIPELINE_HOME", str(server_home))
    monkeypatch.setenv("BKT_DEMO", "1")
    caplog.set_level("INFO")
    engine, is_embedded = connect(budget_seconds=0)
    engine.dispose()
    assert is_embedded
    (line,) = caplog.messages
    assert line == f"DATABASE_URL is not set: using the embedded Postgres in {server_home}"


def test_the_demo_can_be_ruled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BKT_DEMO", "0")
    choose_demo_without_platform()
    assert settings().demo is False
    with pytest.raises(InvalidSettings, match="DATABASE_URL is not set"):
        connect()


def test_the_note_of_a_platform_holds_no_secret(monkeypatch: pytest.MonkeyPatch, platform: Platform) -> None:
    monkeypatch.setenv("DATABASE_URL", platform.url.replace("postgres@", "postgres:se%2Fcret@"))
    open_database().close()
    noted = configured_platform()
    assert noted is not None
    assert "cret" not in noted
    assert "postgres@" not in noted


def test_a_home_that_cannot_be_written_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, platform: Platform, tmp_path: Path
) -> None:
    (tmp_path / "home").touch()
    monkeypatch.setenv("DATABASE_URL", platform.url)
    open_database().close()
    assert configured_platform() is None


def test_a_note_without_a_text_is_a_platform_all_the_same() -> None:
    note_platform("")
    assert configured_platform() == "of an unknown name"


def test_each_platform_has_a_dagster_storage_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [embedded_name()]
    for url in (
        "postgresql://someone:secret@db.example.org/platform",
        "postgres://other:changed@db.example.org:5432/platform?sslmode=require",
        "postgresql://someone:secret@db.example.org/staging",
        "postgresql://someone:secret@staging.example.org/platform",
        "postgresql://someone:secret@db.example.org:6543/platform",
    ):
        monkeypatch.setenv("DATABASE_URL", url)
        names.append(embedded_name())
    assert names[1] == names[2], "a new role or password is the same platform"
    assert len(set(names)) == 5
    assert all(len(os.fsencode(name)) < 64 for name in names)
