"""deploy/: what the pages say is run or at least parsed; units, settings and schedules are read by their own parsers."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
import yaml

from bkt_pipeline.cli.main import parser
from bkt_pipeline.embedded import server as embedded
from bkt_pipeline.embedded.binaries import wheel_binaries
from bkt_pipeline.settings import variables
from bkt_pipeline_tests.conftest import PROJECT
from bkt_pipeline_tests.helpers import children
from bkt_pipeline_tests.helpers.answer_files import write_answers
from bkt_pipeline_tests.helpers.pages import commands_of_ours, fenced

BIN = Path(sys.executable).parent
DEPLOY = PROJECT / "deploy"
PAGE = DEPLOY / "README.md"
PAGES = [PROJECT / "README.md", *sorted(PROJECT.glob(".github/*.md")), *sorted(DEPLOY.rglob("*.md"))]
UNITS = sorted((DEPLOY / "systemd").iterdir())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_our_own_parser_accepts_every_command_on_a_page(page: Path) -> None:
    for command in commands_of_ours(page.read_text()):
        if "--help" not in command:
            parser().parse_args(command)  # exits if it refuses the command, and says why


@pytest.mark.parametrize(
    "page",
    [*PAGES, *sorted(PROJECT.glob("benchmarks/*.md"))],
    ids=lambda page: str(page.relative_to(PROJECT)),
)
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    for target, _, heading in re.findall(r"\]\(([^):#]*)(#([^)]+))?\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not heading or heading in headings(file), heading


def headings(page: Path) -> set[str]:
    """The names by which GitHub links to the headings of a page."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in found}


def test_every_guide_is_on_the_page_of_operations() -> None:
    for guide in DEPLOY.glob("*/README.md"):
        assert f"({guide.relative_to(DEPLOY)})" in PAGE.read_text()


@pytest.mark.slow
def test_the_commands_on_the_page_run_in_its_order(server_home: Path, tmp_path: Path) -> None:
    """On the embedded database, which is also what DATABASE_URL names where a line needs it."""
    home = server_home / "operations"
    keep = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    path = os.pathsep.join([str(BIN), str(wheel_binaries()), os.environ["PATH"]])
    environment = {**keep, "PATH": path, "BKT_PIPELINE_HOME": str(home), "PYTHONPATH": str(PROJECT)}
    lines = [line for block in fenced(PAGE, "sh") for line in block.splitlines()]
    assert len(lines) >= 10
    try:
        url = embedded.ensure(home, database="bkt")
        # With one skill and our tables.
        for command in (["load", str(write_answers(tmp_path / "answers.csv"))], ["migrate"]):
            made = children.run(*command, environment=environment)
            assert made.returncode == 0, made.stderr
        script = "\n".join(["set -eux", f"export DATABASE_URL='{url}'", *lines])
        # Only for psql and pg_dump: our own commands find the embedded database by themselves.
        script = re.sub(r"^bkt-pipeline", "env --unset=DATABASE_URL bkt-pipeline", script, flags=re.MULTILINE)
        ran = subprocess.run(
            ["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr[-2000:]
        with psycopg.connect(url) as connection:
            for query in fenced(PAGE, "sql"):
                assert connection.execute(query).fetchall() == []
    finally:
        embedded.release(home)


def test_psql_stops_in_the_grants_at_the_first_error_and_keeps_nothing(empty_database: str) -> None:
    with psycopg.connect(empty_database) as owner:
        owner.execute("CREATE TABLE skills (id int); CREATE TABLE items (id int)")
    psql = [wheel_binaries() / "psql", empty_database]
    ran = subprocess.run(psql, input=(DEPLOY / "grants.sql").read_bytes(), capture_output=True)
    assert ran.returncode != 0
    assert ran.stderr.count(b"ERROR") == 1  # that there is no table attempts
    with psycopg.connect(empty_database) as owner:
        assert owner.execute("SELECT FROM pg_roles WHERE rolname = 'bkt_nightly'").fetchall() == []
        assert owner.execute("SELECT relacl FROM pg_class WHERE relname = 'skills'").fetchone() == (None,)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/bkt/bin", str(BIN)))
    verify = ["systemd-analyze", "verify", *(tmp_path / unit.name for unit in UNITS)]
    ran = subprocess.run(verify, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_daemon_of_the_unit_finds_its_workspace(tmp_path: Path) -> None:
    text = (DEPLOY / "systemd/bkt-daemon.service").read_text()
    text = text.replace("/var/lib/bkt-pipeline", str(tmp_path)).replace("/opt/bkt/bin", str(BIN))
    assigned = " ".join(re.findall(r"^Environment=(.+)$", text, re.MULTILINE)).split()
    (prepare,) = re.findall(r"^ExecStartPre=(.+)$", text, re.MULTILINE)
    (workspace,) = re.findall(r"^ExecStart=.+ --workspace (\S+)$", text, re.MULTILINE)
    environment = dict(pair.split("=", 1) for pair in assigned)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), **environment}
    subprocess.run(shlex.split(prepare), env=environment, cwd=tmp_path, check=True)
    assert Path(workspace).exists()
    assert (Path(environment["DAGSTER_HOME"]) / "dagster.yaml").exists()


def test_the_units_run_commands_that_exist_and_are_on_the_page() -> None:
    for unit in UNITS:
        text = unit.read_text()
        for command in re.findall(r"^ExecStart\S*=/opt/bkt/bin/bkt-pipeline (.+)$", text, re.MULTILINE):
            parser().parse_args(command.split())
        shown = unit.with_suffix(".timer").name if unit.with_suffix(".timer").exists() else unit.name
        assert f"(systemd/{shown})" in PAGE.read_text()


@pytest.mark.parametrize("file", ["compose/compose.yaml", "kubernetes/values.yaml"])
def test_every_setting_that_a_deployment_passes_on_exists(file: str) -> None:
    names = set(re.findall(r"\b(BKT_[A-Z_]+|DAGSTER_[A-Z_]+|ATTEMPT_[A-Z_]+)\b", (DEPLOY / file).read_text()))
    assert names - {"BKT_PUBLIC_URL"} <= set(variables())


@pytest.mark.skipif(find_spec("check_jsonschema") is None, reason="check-jsonschema is not installed")
@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.compose-spec", DEPLOY / "compose/compose.yaml"),
        ("vendor.github-workflows", PROJECT / ".github/workflows/ci.yml"),
    ],
    ids=["compose", "workflow"],
)
def test_the_files_of_other_tools_match_their_schemas(schema: str, file: Path) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, file]
    ran = subprocess.run(check, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def test_the_jobs_on_kubernetes_run_our_image_with_commands_that_exist() -> None:
    values = yaml.safe_load((DEPLOY / "kubernetes/values.yaml").read_text())
    (code,) = values["dagster-user-deployments"]["deployments"]
    image = f"{code['image']['repository']}:{code['image']['tag']}"
    for name in ("migrate", "prune"):
        text = (DEPLOY / f"kubernetes/{name}.yaml").read_text()
        assert f"image: {image}\n" in text
        (command,) = re.findall(r"command: (\[.+\])", text)
        assert json.loads(command)[0] == "bkt-pipeline"
        parser().parse_args(json.loads(command)[1:])
