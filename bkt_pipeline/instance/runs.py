"""Which runs are still alive. A killed process cannot report its end, so each run records its process.

Dagster's run monitoring finds a run whose process died alone. A run that died with its whole container or
machine, or that was started by a command, would count as running for ever: it would keep its place in the
queue, and inactive skills would never be retired. A run with its own ECS task is left to Dagster, which asks
ECS for the task's state.
"""

import os
import platform
import subprocess
from pathlib import Path

import dagster as dg

PROCESS_TAG = "bkt/process"
ECS_TASK_TAG = "ecs/task_arn"  # from dagster-aws

UNFINISHED_STATUSES = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def process_tag() -> dict[str, str]:
    """The tag that records the current process as the run's process."""
    return {PROCESS_TAG: f"{platform.node()} {os.getpid()} {_began(os.getpid())}"}


def note_process(context: dg.InitResourceContext) -> None:
    """Tag the run, if there is one, with the process that executes it."""
    if context.run is not None and context.instance is not None:
        process = f"{process_tag()[PROCESS_TAG]} {context.run.run_id}"
        context.instance.add_run_tags(context.run.run_id, {PROCESS_TAG: process})


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed if their process ended without reporting it; returns their ids."""
    dead = [run for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED_STATUSES)) if is_dead(run)]
    for run in dead:
        instance.report_run_failed(
            run, f"the process of the run ({run.tags[PROCESS_TAG].split()[1]}) was killed or has crashed"
        )
    return [run.run_id for run in dead]


def is_dead(run: dg.DagsterRun) -> bool:
    """Whether the run's process is known to be gone; False for a process on another machine."""
    if ECS_TASK_TAG in run.tags:
        # Containers may share a host name but have separate pid namespaces.
        return False
    host, pid, began, of_run = [*run.tags.get(PROCESS_TAG, "").split(" "), "", "", "", ""][:4]
    # A retried run has the tags of the run that died until it records its own process.
    is_its_own = of_run == run.run_id if of_run else run.parent_run_id is None
    return is_its_own and host == platform.node() and pid.isdecimal() and _began(int(pid)) != began


def _began(pid: int) -> str:
    """The process's start time, which distinguishes it from a later process with the same pid; empty if it is gone."""
    if Path("/proc/self/stat").exists():
        try:
            state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if state in "ZX" else fields[18]
    ps = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return "-".join(ps.stdout.split())
