"""Every environment variable: what it may be, what an invalid one reports, and what is never shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.settings import Settings, settings, variables

PASSWORD = "se/cr@t"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BKT_PIPELINE_HOME")


def test_without_any_variable_every_setting_has_its_default() -> None:
    assert settings().model_fields_set == set()
    assert settings().skills_per_run == 1000
    assert settings().update_items is True


@pytest.mark.parametrize("name", variables())
@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert settings().model_fields_set == set()


def test_settings_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("5", "7"):
        monkeypatch.setenv("BKT_RETRY_SECONDS", value)
        assert settings().retry_seconds == int(value)


def test_an_option_in_lower_case_is_not_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("bkt_retry_seconds", "5")
    monkeypatch.setenv("retry_seconds", "5")
    assert settings().retry_seconds == 90


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("BKT_RETRY_SECONDS", "soon", "a whole number, at least 0 and at most 999999"),
        ("BKT_RETRY_SECONDS", "-1", "a whole number, at least 0 and at most 999999"),
        ("BKT_STATEMENT_SECONDS", "0", "a whole number, at least 1 and at most 999999"),
        ("BKT_STATEMENT_SECONDS", "1_000", "a whole number, at least 1 and at most 999999"),
        ("BKT_SKILLS_PER_RUN", "1e3", "a whole number, at least 1"),
        ("BKT_SKILLS_PER_RUN", "٣", "a whole number, at least 1"),
        ("BKT_SHARD_TAGS", "ecs/cpu", "name=value, several with a space between them"),
        ("BKT_THETA_FROM", "master", "replay or mastery"),
        ("BKT_UPDATE_ITEMS", "perhaps", "yes or no"),
    ],
)
def test_an_invalid_value_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings) as caught:
        settings()
    assert str(caught.value) == f"{name} is {value!r}; it must be {allowed}"


def test_a_url_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables():
        if name.endswith("_URL") or name == "ATTEMPT_WINDOW_STORE":
            monkeypatch.setenv(name, f"postgresql://someone:{PASSWORD}@host/name")
    assert PASSWORD not in f"{settings()} {settings()!r}"
    monkeypatch.setenv("BKT_RETRY_SECONDS", "soon")
    with pytest.raises(InvalidSettings) as caught:
        settings()
    chain = (caught.value, caught.value.__cause__, caught.value.__context__)
    assert not any(PASSWORD in str(error) for error in chain)


def test_every_url_is_a_secret() -> None:
    for name, field in variables().items():
        if name.endswith("_URL"):
            assert field.annotation == SecretStr | None, name


def test_no_dotenv_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BKT_RETRY_SECONDS=5\nDATABASE_URL=postgresql://elsewhere/other\n")
    monkeypatch.chdir(tmp_path)
    assert settings().model_fields_set == set()


def test_every_variable_has_a_description_and_a_unique_name() -> None:
    assert len(variables()) == len(Settings.model_fields)
    for name, field in variables().items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_a_test_sees_no_libpq_variable() -> None:
    assert [name for name in os.environ if name.startswith("PG")] == []


def test_a_test_sees_none_of_the_developers_settings() -> None:
    environment = dict.fromkeys([*variables(), "PGHOST", "PGOPTIONS", "PGDATESTYLE"], "developer")
    program = f"""
import os, sys
os.environ.update({environment!r})
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", {str(Path(__file__))!r}, "-k", "has_its_default or sees_no_libpq"]))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout
