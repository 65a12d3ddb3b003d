"""Kernels are loaded late, compiled once on a machine, and work where nothing can be written."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import bkt_pipeline

pytestmark = pytest.mark.slow

SOURCE = Path(bkt_pipeline.__file__).parent


def install(folder):
    """Copy the package's model into a folder of its own, with no room for a cache beside the source."""
    target = folder / "bkt_pipeline"
    target.mkdir()
    for name in ("__init__.py", "errors.py"):
        shutil.copy(SOURCE / name, target)
    shutil.copytree(SOURCE / "model", target / "model", ignore=shutil.ignore_patterns("__pycache__"))
    # A file in the place of the folder: refused even to root.
    (target / "model" / "kernels" / "__pycache__").touch()
    return folder


@pytest.fixture
def installed(tmp_path):
    return install(tmp_path)


def run(installed, code, **environment):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(installed),
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        },
        cwd=installed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def home(folder):
    """The variables that numba looks for a cache folder in."""
    return {"HOME": str(folder), "XDG_CACHE_HOME": f"{folder}/cache"}


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
    assert run(installed, WARM_UP, **home(installed / "home")) == ["compiling", "ready"]
    assert run(installed, WARM_UP, **home(installed / "home")) == ["ready"]


ITEMS = """
import numpy as np
from bkt_pipeline.model.irt.two_pl import fit_item
print(np.isfinite(fit_item(np.linspace(-2, 2, 60), [0, 1, 1] * 20).irt_a))
"""


# Python itself may lie where only root may read, so all of it that is needed is loaded first.
WITHOUT_AN_ACCOUNT = """
import os, sys, numba, scipy.optimize, bkt_pipeline.model
numba.njit(lambda x: x + 1)(1)
os.setgid(54321); os.setuid(54321)
assert os.path.expanduser("~") == "~"
"""


def test_an_install_without_any_place_for_a_cache_works(installed):
    assert run(installed, LIKELIHOOD + ITEMS, **home(os.devnull)) == ["True", "True"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another account")
def test_an_account_without_a_home_works():
    # Not in tmp_path, which other accounts may not read.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        assert run(install(Path(folder)), WITHOUT_AN_ACCOUNT + LIKELIHOOD + ITEMS) == ["True", "True"]


SURFACE = """
import numpy as np
from bkt_pipeline.model import BktParams, log_likelihood
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.simulate import simulate
params = BktParams(0.3, 0.1, 0.1, 0.2)
window = simulate(params, n_students=50, seed=1)
surface = DistinctSequences.of(window).surface(np.array([0.3]), np.array([[0.1, 0.1, 0.2]]))
print(np.isclose(surface[0, 0], log_likelihood(window, params), rtol=1e-12))
"""


def test_a_cache_of_kernels_is_not_used_after_their_constants_changed(installed):
    cache = home(installed / "home")
    assert run(installed, SURFACE, **cache) == ["True"]
    changed = 0
    for file in (installed / "bkt_pipeline" / "model" / "kernels").glob("*.py"):
        text, found = re.subn(r"^STEP = 4$", "STEP = 5", file.read_text(), flags=re.MULTILINE)
        changed += found
        file.write_text(text)
    assert changed == 1
    assert run(installed, SURFACE, **cache) == ["True"]


@pytest.mark.parametrize(
    "file", sorted((SOURCE / "model" / "kernels").glob("*.py")), ids=lambda file: file.name
)
def test_kernels_use_no_name_of_another_of_our_modules(file):
    """numba compiles a module's global names into its kernels, and its cache looks at that module's file only."""
    tree = ast.parse(file.read_text())
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("bkt_pipeline.")
        for alias in node.names
    }
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.decorator_list:
            inside = {
                node.id for line in function.body for node in ast.walk(line) if isinstance(node, ast.Name)
            }
            assert not inside & imported, f"{function.name} uses {inside & imported}"
