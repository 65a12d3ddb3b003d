"""Which runs still live. A process that was killed cannot say so, so each run notes the process that it is in.

Dagster itself finds a run that died with nothing else; one that died with its whole container or machine,
or that a command ran, would count as running for ever: it would hold a place in the queue, and the
skills that went inactive would never be retired. A run that has a task of its own on ECS is left to Dagster,
which asks ECS how the task is.
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
    """The tag that says which process a run is in: this one."""
    return {PROCESS_TAG: f"{platform.node()} {os.getpid()} {_began(os.getpid())}"}


def note_process(context: dg.InitResourceContext) -> None:
    """Tag the run, where there is one, with the process that executes it."""
    if context.run is not None and context.instance is not None:
        noted = f"{process_tag()[PROCESS_TAG]} {context.run.run_id}"
        context.instance.add_run_tags(context.run.run_id, {PROCESS_TAG: noted})


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark the runs failed whose process has ended without a word; returns their ids."""
    dead = [run for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED_STATUSES)) if is_dead(run)]
    for run in dead:
        instance.report_run_failed(
            run, f"the process of the run ({run.tags[PROCESS_TAG].split()[1]}) was killed or has crashed"
        )
    return [run.run_id for run in dead]


def is_dead(run: dg.DagsterRun) -> bool:
    """Whether the run's process is known to be gone; of a process on another machine nothing is known."""
    if ECS_TASK_TAG in run.tags:
        # Tasks on one machine may bear its name and yet number their processes each for itself.
        return False
    host, pid, began, of_run = [*run.tags.get(PROCESS_TAG, "").split(" "), "", "", "", ""][:4]
    # A run that is started again has the tags of the one that died, until it notes its own process.
    is_its_own = of_run == run.run_id if of_run else run.parent_run_id is None
    return is_its_own and host == platform.node() and pid.isdecimal() and _began(int(pid)) != began


def _began(pid: int) -> str:
    """When the process was started, which tells it from a later one with its number; empty where it is gone."""
    if Path("/proc/self/stat").exists():
        try:
            state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if state in "ZX" else fields[18]
    told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return "-".join(told.stdout.split())
