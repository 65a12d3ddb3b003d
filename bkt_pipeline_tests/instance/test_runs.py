"""A run is dead only if that is proved."""

import os
import shutil
import subprocess
import sys

import dagster as dg
import pytest

from bkt_pipeline.instance import runs
from bkt_pipeline.instance.runs import PROCESS_TAG, is_dead, process_tag

PRINT_TAG = "from bkt_pipeline.instance.runs import *; print(process_tag()[PROCESS_TAG], flush=True); input()"
IMPORTS = "import os, sys, dagster as dg; from bkt_pipeline.instance.runs import *;"
PRINT_DEATH = "print(is_dead(dg.DagsterRun('job', tags={PROCESS_TAG: sys.argv[1]})))"
# The child looks for its parent, which lives and is hidden from it.
LOOK_AS_NOBODY = """
run = dg.DagsterRun('job', tags=process_tag())
if os.fork() == 0:
    os.setuid(65534)
    print(is_dead(run), flush=True)
else:
    os.wait()
"""


def run_of(process: str) -> dg.DagsterRun:
    return dg.DagsterRun("job", tags={PROCESS_TAG: process})


def changed(part: int, value: str) -> str:
    """The tag of this process, with another host, machine, boot or namespace."""
    place, *rest = process_tag()[PROCESS_TAG].split(" ")
    parts = place.split("/")
    parts[part] = value
    return " ".join(["/".join(parts), *rest])


@pytest.mark.slow
def test_a_process_that_ended_is_dead_and_a_living_one_is_not() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PRINT_TAG], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    run = run_of(child.stdout.readline().strip())
    assert not is_dead(run)
    child.communicate("\n")
    assert is_dead(run)


def test_a_later_process_with_the_same_id_is_another() -> None:
    assert is_dead(run_of(process_tag()[PROCESS_TAG] + "1"))


@pytest.mark.skipif(not runs.PROC.exists(), reason="no /proc")
@pytest.mark.parametrize("part", [0, 1, 3], ids=["host", "machine", "namespace"])
def test_a_process_elsewhere_is_unknown(part: int) -> None:
    assert not is_dead(run_of(changed(part, "elsewhere") + "1"))


def test_the_tag_of_another_version_is_unknown() -> None:
    for tag in ("host 999999999 1", "", "host", "a/b 1", "a/b/c/d/e 1 2"):
        assert not is_dead(run_of(tag))


def test_a_process_of_an_earlier_boot_of_the_machine_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_place", lambda: f"host/machine/second/{runs.FIRST_NAMESPACE}")
    assert is_dead(run_of(f"host/machine/first/{runs.FIRST_NAMESPACE} 1 1"))
    assert not is_dead(run_of(f"host/other/first/{runs.FIRST_NAMESPACE} 1 1"))
    assert not is_dead(run_of("host/machine/first/4026532000 1 1"))
    monkeypatch.setattr(runs, "_place", lambda: f"host//second/{runs.FIRST_NAMESPACE}")
    assert not is_dead(run_of(f"host//first/{runs.FIRST_NAMESPACE} 1 1"))


def unshared(*options: str) -> list[str]:
    command = [shutil.which("unshare") or "unshare", *options]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("no namespaces can be made here")
    return command


@pytest.mark.slow
def test_a_living_process_is_not_dead_to_another_pid_namespace() -> None:
    command = unshared("--pid", "--fork", "--mount-proc")
    looked = subprocess.run(
        [*command, sys.executable, "-c", IMPORTS + PRINT_DEATH, process_tag()[PROCESS_TAG]],
        capture_output=True,
        text=True,
    )
    assert looked.stdout == "False\n", looked.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look as another user")
def test_a_living_process_is_not_dead_to_another_user_under_hidepid() -> None:
    # In a PID namespace of its own, since the option counts for all mounts of a namespace's /proc.
    command = unshared("--pid", "--fork", "--mount")
    hides = ["sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh"]
    if subprocess.run([*command, *hides, "true"], capture_output=True).returncode:
        pytest.skip("/proc cannot be mounted with hidepid here")
    looked = subprocess.run(
        [*command, *hides, sys.executable, "-c", IMPORTS + LOOK_AS_NOBODY], capture_output=True, text=True
    )
    assert looked.stdout == "False\n", looked.stderr
