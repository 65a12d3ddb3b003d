"""What a command takes from the folder that it is run in."""

import os
from pathlib import Path

import pytest

from bkt_pipeline.cli.folder import environment_elsewhere, outside_the_working_folder

HERE = Path("/home/of/somebody")


@pytest.mark.parametrize(
    ("name", "value", "moved"),
    [
        ("BKT_PIPELINE_HOME", "data", "/home/of/somebody/data"),
        ("BKT_PIPELINE_HOME", "../data", "/home/of/data"),
        ("BKT_PIPELINE_HOME", "/data", "/data"),
        ("BKT_PIPELINE_HOME", "~/data", "~/data"),
        ("PGSSLROOTCERT", "ca.pem", "/home/of/somebody/ca.pem"),
        ("PGSSLROOTCERT", "system", "system"),
        ("PYTHONPATH", ":a:/b:", "/home/of/somebody/a:/b"),
        ("PYTHONPATH", "", ""),
        ("DATABASE_URL", "", ""),
        ("DATABASE_URL", "postgresql://u:sslkey=x@h/d", "postgresql://u:sslkey=x@h/d"),
        (
            "DATABASE_URL",
            "postgresql://u:p@h/d?sslmode=verify-full&sslrootcert=certs/c%20a.pem&sslkey=/k.pem",
            "postgresql://u:p@h/d?sslmode=verify-full&sslrootcert=/home/of/somebody/certs/c%20a.pem&sslkey=/k.pem",
        ),
        ("DATABASE_URL", "postgresql://h/d?sslrootcert=system", "postgresql://h/d?sslrootcert=system"),
        (
            "DAGSTER_POSTGRES_URL",
            "host=h sslrootcert=ca.pem passfile=%2Fp",
            "host=h sslrootcert=/home/of/somebody/ca.pem passfile=%2Fp",
        ),
        ("HOME", "relative", "relative"),
    ],
)
def test_a_path_in_a_setting_means_the_same_file_in_every_process(name: str, value: str, moved: str) -> None:
    assert environment_elsewhere({name: value}, HERE)[name] == moved


def test_a_command_works_elsewhere_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BKT_PIPELINE_HOME", "data")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with outside_the_working_folder():
        assert Path.cwd() == Path("/")
        assert os.environ["BKT_PIPELINE_HOME"] == str(tmp_path / "data")
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert Path.cwd() == tmp_path
    assert os.environ["BKT_PIPELINE_HOME"] == "data"
    assert "PYTHONSAFEPATH" not in os.environ


def test_commands_work_in_a_deleted_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with outside_the_working_folder():
        assert Path.cwd() == Path("/")
