"""The house rules that code can break without a test of its own noticing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bkt_pipeline

PACKAGE = Path(bkt_pipeline.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

FORBIDDEN = {
    "model": ("dagster", "sqlalchemy", "psycopg", "alembic", "bkt_pipeline.db", "bkt_pipeline.assets"),
    "db": ("dagster", "bkt_pipeline.assets", "bkt_pipeline.resources", "bkt_pipeline.cli"),
}
PRIVATE_DAGSTER = {
    "dagster._core.definitions.asset_checks.asset_check_evaluation",
    "dagster._core.definitions.source_asset",
}


def imports_of(module: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("room", FORBIDDEN)
def test_arrows_point_one_way(room: str) -> None:
    wrong = [
        (module.name, name)
        for module in (PACKAGE / room).rglob("*.py")
        for name in imports_of(module)
        for package in FORBIDDEN[room]
        if is_below(name, package)
    ]
    assert wrong == []


def test_only_dagsters_public_names_are_used() -> None:
    private = {
        (module.name, name)
        for module in MODULES
        for name in imports_of(module)
        if name.startswith(("dagster._", "dagster_postgres._", "dagster_shared"))
    }
    assert private == {("private.py", name) for name in PRIVATE_DAGSTER}


def test_assets_and_checks_keep_their_annotations() -> None:
    for name in (
        "assets.py",
        "item_assets.py",
        "checks.py",
        "automation.py",
        "resources.py",
        "io_managers.py",
        "summary.py",
    ):
        assert "__future__" not in imports_of(PACKAGE / name), name


def test_nothing_happens_at_import(tmp_path: Path) -> None:
    """With an empty environment, no home and no working folder of its own, importing all of it touches nothing."""
    program = """
import builtins, io, os, socket, sqlite3, sys
def refuse(*a, **k): raise AssertionError("import opens a socket")
socket.socket.connect = refuse
import bkt_pipeline.definitions, bkt_pipeline.instance, bkt_pipeline.cli, bkt_pipeline.model
for heavy in ("numba", "scipy", "pandas", "matplotlib", "boto3", "pyarrow"):
    assert heavy not in sys.modules, f"{heavy} is loaded at import: each run would pay for it at its start"
"""
    ran = subprocess.run(
        [sys.executable, "-B", "-c", program], env={}, cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert list(tmp_path.iterdir()) == []
