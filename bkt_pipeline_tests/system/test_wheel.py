"""The wheel is complete: installed elsewhere, it runs a first night without any file of the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bkt_pipeline.embedded import server as embedded
from bkt_pipeline_tests.conftest import PROJECT

# Python imports this at the start of every process, children included. The virtual environment may be in the checkout.
REFUSE_THE_CHECKOUT = f"""
import os, sys
def refuse(event, arguments):
    if event in ("open", "import") and isinstance(arguments[0], str):
        path = os.path.abspath(arguments[0])
        if path.startswith({str(PROJECT) + os.sep!r}) and not path.startswith({sys.prefix + os.sep!r}):
            raise PermissionError(f"{{path}} belongs to the checkout")
sys.addaudithook(refuse)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's contents, built from a copy of the checkout, since building leaves files behind."""
    copy, folder = tmp_path_factory.mktemp("copy") / "source", tmp_path_factory.mktemp("installed")
    shutil.copytree(
        PROJECT, copy, ignore=shutil.ignore_patterns(".*_cache", ".git", ".venv", "build", "*.egg-info")
    )
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    (wheel,) = (copy / "dist").glob("*.whl")
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel]
    subprocess.run([sys.executable, *install], check=True)
    shutil.rmtree(copy)
    take_compiled_kernels_along(folder)
    (folder / "sitecustomize.py").write_text(REFUSE_THE_CHECKOUT)
    return folder


def take_compiled_kernels_along(folder: Path) -> None:
    """Compiling them would take half of the time; test_compile.py has that. numba compares each file's time and size."""
    there, here = (root / "bkt_pipeline/model/kernels" for root in (folder, PROJECT))
    for source in here.glob("*.py"):
        os.utime(there / source.name, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    (there / "__pycache__").mkdir(exist_ok=True)
    for kernel in (here / "__pycache__").glob("*.nb[ci]"):
        shutil.copy2(kernel, there / "__pycache__")


def run(installed: Path, home: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-P", *command],
        env={**keep, "PYTHONPATH": str(installed), "BKT_PIPELINE_HOME": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow
def test_the_wheel_runs_a_first_night_without_the_checkout(installed: Path, server_home: Path) -> None:
    home = server_home / "wheel"
    home.mkdir(mode=0o711)
    command = installed / "bin/bkt-pipeline"
    reading_the_checkout = run(installed, home, "-c", f"open({str(PROJECT / 'README.md')!r})")
    assert "belongs to the checkout" in reading_the_checkout.stderr
    try:
        night = run(installed, home, command, "nightly", "--skip-irt", "--skill", "fractions-add")
        assert night.returncode == 0, night.stderr
        assert "1 skill: 1 calibrated" in night.stdout
        grants = run(installed, home, command, "migrate", "--print-grants")
        assert grants.stdout == (PROJECT / "deploy/grants.sql").read_text()
    finally:
        embedded.release(home)
