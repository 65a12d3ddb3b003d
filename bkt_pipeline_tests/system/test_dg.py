"""The command `dg`, in a clone and in a project that declares the component. It needs the package dagster-dg-cli."""

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from bkt_pipeline_tests.conftest import PROJECT, Platform
from bkt_pipeline_tests.helpers.schools import enrol, shift, stored

DG = Path(sys.executable).parent / "dg"

PYPROJECT = """
[project]
name = "school"
version = "0.1.0"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "school"
"""
DEFINITIONS = """
from pathlib import Path

import dagster as dg


@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
DEFS_YAML = """
type: bkt_pipeline.BktCalibration

attributes:
  key_prefix: bkt
  group_name: bkt
  cron: "0 3 * * *"
"""


def run_dg(folder: Path, *arguments: str, **environment: str) -> str:
    ran = subprocess.run(
        [DG, *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{DG.parent}:{os.environ['PATH']}",
            "DAGSTER_TELEMETRY": "0",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project as `create-dagster project` makes it, with one component."""
    files = {
        "pyproject.toml": PYPROJECT,
        "src/school/__init__.py": "",
        "src/school/definitions.py": DEFINITIONS,
        "src/school/defs/__init__.py": "",
        "src/school/defs/bkt/defs.yaml": DEFS_YAML,
    }
    for name, text in files.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "project"


@pytest.mark.skipif(not DG.exists(), reason="dg is not installed: pip install dagster-dg-cli")
def test_dg_checks_lists_and_launches_in_a_clone_and_in_a_project(
    project: Path, platform: Platform, instance: dg.DagsterInstance
) -> None:
    skills = list(enrol(platform, [20, 20]))
    shift(platform, dt.datetime.now(dt.UTC))
    settings = {"PYTHONPATH": f"{project / 'src'}:{PROJECT}", "DATABASE_URL": platform.url}
    run_dg(PROJECT, "check", "defs", **settings)
    run_dg(PROJECT, "launch", "--job", "active_skills_job", **settings)
    run_dg(
        PROJECT, "launch", "--assets", "skill_bkt_params,attempt_window", "--partition", skills[1], **settings
    )
    assert instance.get_dynamic_partitions("skill") == skills
    run_dg(project, "check", "defs", **settings)
    listed = json.loads(run_dg(project, "list", "defs", "--json", **settings))
    assert "bkt/skill_bkt_params" in {asset["asset_key"] for asset in listed["assets"]}
    assert {"bkt_active_skills_job", "bkt_calibration"} <= {job["name"] for job in listed["jobs"]}
    run_dg(project, "launch", "--job", "bkt_active_skills_job", **settings)
    run_dg(project, "launch", "--job", "bkt_calibration", "--partition", skills[0], **settings)
    assert instance.get_dynamic_partitions("bkt_skill") == skills
    assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}
    assert len(instance.get_runs()) == 4
    assert stored(platform).keys() == set(skills)
