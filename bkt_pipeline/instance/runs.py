"""Which runs are still alive. A killed process cannot report its end, so each run records its process.

Dagster's run monitoring detects a run if only its process died. A run that died with its whole container or machine, or
that was started by a command, would count as running for ever: it would keep its place in the queue, and inactive skills
would never be retired. Runs with their own ECS task are left to Dagster, which asks ECS for the task's state.
"""

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import dagster as dg

PROCESS_TAG = "bkt/process"
ECS_TASK_TAG = "ecs/task_arn"  # from dagster-aws
PROC = Path("/proc")
FIRST_NAMESPACE = "4026531836"  # the machine's own PID namespace; the kernel's constant PROC_PID_INIT_INO

UNFINISHED_STATUSES = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def process_tag() -> dict[str, str]:
    """The tag that records the current process as the run's process."""
    return {PROCESS_TAG: f"{_place()} {os.getpid()} {_began(os.getpid())}"}


def note_process(context: dg.InitResourceContext, tags: Mapping[str, str]) -> None:
    """Tag the run, if there is one, with the process that executes it, and with the `tags`."""
    if context.run is not None and context.instance is not None:
        process = f"{process_tag()[PROCESS_TAG]} {context.run.run_id}"
        context.instance.add_run_tags(context.run.run_id, {PROCESS_TAG: process, **tags})


def end_dead_runs(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> list[str]:
    """Mark the runs with these tags as failed if their process ended without reporting it; returns their ids."""
    unfinished = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED_STATUSES, tags=tags))
    dead = [run for run in unfinished if is_dead(run)]
    for run in dead:
        instance.report_run_failed(
            run, f"the process of the run ({run.tags[PROCESS_TAG].split()[1]}) was killed or has crashed"
        )
    return [run.run_id for run in dead]


def is_dead(run: dg.DagsterRun) -> bool:
    """Whether there is proof that the run's process is gone.

    False for a process on another machine or in another PID namespace, and if other users' processes are hidden.
    """
    if ECS_TASK_TAG in run.tags:
        return False
    place, pid, began, of_run = [*run.tags.get(PROCESS_TAG, "").split(" "), "", "", "", ""][:4]
    # A retried run has the tags of the run that died until it records its own process.
    is_its_own = of_run == run.run_id if of_run else run.parent_run_id is None
    if not is_its_own or not pid.isdecimal() or not began:
        return False
    if _ended_with_boot(place):
        return True
    return place == _place() and _sees_every_process() and _began(int(pid)) != began


def _place() -> str:
    """The place in which a process id identifies one process: host, machine, boot and PID namespace.

    The host name alone is not enough, because containers or machines may share it.
    """
    if not PROC.exists():
        return platform.node()
    machine = Path("/etc/machine-id")
    # systemd asks programs not to publish the id itself.
    named = hashlib.sha256(b"bkt_pipeline" + machine.read_bytes()).hexdigest() if machine.exists() else ""
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{platform.node()}/{named[:16]}/{boot}/{(PROC / 'self/ns/pid').stat().st_ino}"


def _ended_with_boot(place: str) -> bool:
    """Whether the machine itself, not just a container on it, has been restarted since."""
    then, now = place.split("/"), _place().split("/")
    same_machine = then[:2] == now[:2] and then[3:] == now[3:] == [FIRST_NAMESPACE] and now[1] != ""
    return same_machine and then[2] != now[2]


def _sees_every_process() -> bool:
    """Whether /proc shows the processes of other users; its mount option hidepid hides them."""
    mounts = PROC / "self/mounts"
    if not mounts.exists():
        return True
    options = [line.split()[3] for line in mounts.read_text().splitlines() if line.split()[1] == str(PROC)]
    hidden = [word for word in ",".join(options).split(",") if word.startswith("hidepid=")]
    return all(word in ("hidepid=0", "hidepid=off") for word in hidden)


def _began(pid: int) -> str:
    """The process's start time, which distinguishes it from a later process with the same pid; empty if it is gone."""
    if (PROC / "self/stat").exists():
        try:
            state, *fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if state in "ZX" else fields[18]
    ps = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return "-".join(ps.stdout.split())
