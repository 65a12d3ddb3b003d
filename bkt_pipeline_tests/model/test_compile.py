"""Kernels are loaded late, compiled once on a machine, and work where nothing can be written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bkt_pipeline

SOURCE = Path(bkt_pipeline.__file__).parent


@pytest.fixture
def installed(tmp_path):
    """The package's model in a folder where no cache can be kept beside the source."""
    target = tmp_path / "bkt_pipeline"
    target.mkdir()
    for name in ("__init__.py", "errors.py"):
        shutil.copy(SOURCE / name, target)
    shutil.copytree(SOURCE / "model", target / "model", ignore=shutil.ignore_patterns("__pycache__"))
    # A file in the place of the folder: refused even to root.
    (target / "model" / "kernels" / "__pycache__").touch()
    return tmp_path


def run(installed, code, cache):
    home = str(installed / "home") if cache else os.devnull
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(installed),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": home,
        "XDG_CACHE_HOME": f"{home}/cache",
    }
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        cwd=installed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


WARM_UP = """
import bkt_pipeline.model, sys
assert "numba" not in sys.modules and "scipy" not in sys.modules
assert bkt_pipeline.__file__.startswith(sys.path[1]), bkt_pipeline.__file__
bkt_pipeline.model.warm_up(lambda: print("compiling"))
print("ready")
"""

LIKELIHOOD = """
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline.model import BktParams, log_likelihood
params = BktParams(0.3, 0.1, 0.1, 0.2)
print(log_likelihood(simulate(params, n_students=5, seed=1), params) < 0)
"""


def test_compiling_is_announced_once_on_a_machine(installed):
    assert run(installed, WARM_UP, cache=True) == ["compiling", "ready"]
    assert run(installed, WARM_UP, cache=True) == ["ready"]


def test_an_install_without_any_place_for_a_cache_works(installed):
    assert run(installed, LIKELIHOOD, cache=False) == ["True"]
