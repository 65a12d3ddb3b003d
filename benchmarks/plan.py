"""Simulates a night that is larger than one machine: shards in a queue, tasks, and the databases that they share.

    python benchmarks/plan.py [--skills 100000] [--attempts 1000000000] [--tasks 1 2 4 …] [--database-cores 8] [--write]

The costs of a shard (COSTS) were measured; plan.md says when and how, and how well the simulation predicted measured
nights. The machines are assumed: `Machines` has each assumption with its source.
"""

import heapq
import itertools
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

PAGE = Path(__file__).with_suffix(".md")
MARK = "## The simulation's tables"  # --write replaces what follows it in plan.md
PIECES = 20  # turns that a shard takes at its task and the databases


@dataclass(frozen=True)
class Machines:
    """The machines of the large night. All of this is assumed, not measured."""

    # A shard is one ECS task. AWS gives no figure; 30 to 60 s are usual for an image of this size on Fargate.
    task_start_seconds: float = 45.0
    # db.r7g.2xlarge for the platform, db.r7g.large for Dagster; their cores as fast as those that were measured.
    platform_cores: int = 8
    dagster_cores: int = 2
    # The run queue looks every 5 s (dequeue_interval_seconds, Dagster's default): half of it on average.
    queue_seconds: float = 2.5
    daemon_cores: int = 1  # it launches one run after the other
    # RDS gp3 from 400 GiB on: 500 MiB/s, 12,000 IOPS (docs.aws.amazon.com, "Amazon RDS DB instance storage").
    storage_bytes_a_second: float = 500 * 2**20
    writes_a_logged_byte: float = 2.0  # to the log, and later to the table


@dataclass(frozen=True)
class Cost:
    """A cost, as the sum of parts for each run, each skill and each attempt."""

    run: float
    skill: float
    attempt: float

    def of(self, skills: int, attempts: int) -> float:
        return self.run + self.skill * skills + self.attempt * attempts


Costs = Mapping[str, Cost]
Stages = Mapping[str, tuple[Costs, int]]  # what each costs, and how many attempts it reads

# Least squares over the nights of shards.md: seconds of CPU, bytes of WAL.
COSTS: dict[str, Costs] = {
    "calibration": {
        "task": Cost(2.059460, 0.01272625, 1.507915e-6),
        "platform": Cost(0.059394, 0.00119743, 9.658623e-7),
        "dagster": Cost(0.004207, 0.00133308, 4.248512e-8),
        "daemon": Cost(0.162693, 0.0, 0.0),
        "logged": Cost(0.0, 56623.577, 25.736266),
    },
    "items": {
        "task": Cost(2.349252, 0.00371242, 5.291325e-7),
        "platform": Cost(0.085237, 0.00055154, 5.522271e-7),
        "dagster": Cost(0.045684, 0.00043503, 2.865447e-8),
        "daemon": Cost(0.166225, 0.00018261, 0.0),
        "logged": Cost(0.0, 24363.814, 0.0),
    },
}
INDEX_BYTES = 65.961984  # of the covering index, an attempt
# More for each run where there are 100,000 partitions instead of 1,000 (nights.md).
PARTITIONS_SECONDS = 1.923051
SPENDERS = ("task", "platform", "dagster", "daemon")  # what uses CPU


@dataclass
class Station:
    """Serves a limited number of shards at a time, first come, first served; None means no limit."""

    servers: int | None
    busy: float = 0.0
    _free: list[float] = field(default_factory=list)

    def serve(self, at: float, seconds: float) -> float:
        """The end of a visit that begins at this time or later; visits arrive in order of time."""
        self.busy += seconds
        if self.servers is None:
            return at + seconds
        begin = at if len(self._free) < self.servers else max(at, heapq.heappop(self._free))
        heapq.heappush(self._free, begin + seconds)
        return begin + seconds


Visits = Iterator[tuple[Station, float]]


def play(shards: int, tasks: int, visits: Callable[[], Visits]) -> float:
    """When the last shard ends, if `tasks` shards run at a time."""
    order = itertools.count()
    waiting = shards - min(tasks, shards)
    under_way = [(0.0, next(order), visits()) for _ in range(shards - waiting)]
    now = 0.0
    while under_way:
        now, _, shard = heapq.heappop(under_way)
        visit = next(shard, None)
        if visit is not None:
            station, seconds = visit
            heapq.heappush(under_way, (station.serve(now, seconds), next(order), shard))
        elif waiting:
            waiting -= 1
            heapq.heappush(under_way, (now, next(order), visits()))
    return now


def shard_visits(
    stations: Mapping[str, Station], costs: Costs, skills: int, attempts: int, machines: Machines
) -> Visits:
    """One shard: launched by the daemon, started, then turn by turn read, computed, stored and reported."""
    share = {name: costs[name].of(skills, attempts) - costs[name].run for name in SPENDERS}
    written = costs["logged"].of(skills, attempts) * machines.writes_a_logged_byte
    share["storage"] = (attempts * INDEX_BYTES + written) / machines.storage_bytes_a_second
    yield stations["queue"], machines.queue_seconds
    for spender in ("daemon", "dagster", "platform"):
        yield stations[spender], costs[spender].run
    yield stations["daemon"], share["daemon"]
    yield stations["start"], machines.task_start_seconds
    yield stations["task"], costs["task"].run
    for _ in range(PIECES):
        for name in ("storage", "platform", "task", "dagster"):
            yield stations[name], share[name] / PIECES


def large_night(
    costs: Costs, shards: int, per_shard: int, attempts: int, tasks: int, machines: Machines
) -> tuple[float, dict[str, float]]:
    """The hours of a stage of the large night, and the share of them in which each part is busy."""
    stations = {name: Station(None) for name in ("task", "queue", "start")} | {
        "platform": Station(machines.platform_cores),
        "dagster": Station(machines.dagster_cores),
        "daemon": Station(machines.daemon_cores),
        "storage": Station(1),
    }
    per_visit = attempts // shards
    seconds = play(shards, tasks, lambda: shard_visits(stations, costs, per_shard, per_visit, machines))
    servers = {name: station.servers or min(tasks, shards) for name, station in stations.items()}
    busy = {name: station.busy / seconds / servers[name] for name, station in stations.items()}
    return seconds / 3600, busy


NAMES = {
    "task": "the tasks",
    "queue": "waiting in the run queue",
    "start": "starting tasks",
    "platform": "the platform's database, CPU",
    "storage": "the platform's storage",
    "dagster": "Dagster's database, CPU",
    "daemon": "the daemon",
}


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---:|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def totals(stages: Stages, shards: int, per_shard: int) -> str:
    """The total that the night needs from each part, which does not depend on the number of tasks."""
    rows = []
    for stage, (costs, attempts) in stages.items():
        total = {name: shards * cost.of(per_shard, attempts // shards) for name, cost in costs.items()}
        gigabytes = [f"{total_bytes / 1e9:,.0f}" for total_bytes in (attempts * INDEX_BYTES, total["logged"])]
        rows.append([stage, *gigabytes, *(f"{total[name] / 3600:.1f}" for name in SPENDERS)])
    spenders = [f"{NAMES[name]}, core h" for name in SPENDERS]
    return table(["stage", "index read, GB", "WAL, GB", *spenders], rows)


def hours(stages: Stages, shards: int, per_shard: int, tasks: list[int], machines: Machines) -> str:
    """How long the night takes with each number of tasks, and what its calibration waits for."""
    rows = []
    for count in tasks:
        found = [large_night(costs, shards, per_shard, n, count, machines) for costs, n in stages.values()]
        busy = found[0][1]
        busiest = sorted(busy, key=lambda name: -busy[name])[:2]
        row = [str(count), *(f"{taken:.2f}" for taken, _ in found)]
        rows.append([*row, *(f"{NAMES[name]} {busy[name]:.0%}" for name in busiest)])
    stage_hours = [f"{stage}, h" for stage in stages]
    return table(["tasks", *stage_hours, "busiest part of the calibration", "next"], rows)


def main() -> None:
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("--skills", type=int, default=100_000)
    options.add_argument("--attempts", type=int, default=10**9, help="in the 30 days that are calibrated")
    options.add_argument("--per-shard", type=int, default=1000, help="BKT_SKILLS_PER_RUN")
    options.add_argument("--tasks", type=int, nargs="+", default=[1, 2, 4, 10, 20, 50, 100, 200])
    options.add_argument("--write", action="store_true", help="renew the tables of benchmarks/plan.md")
    options.add_argument("--database-cores", type=int, default=8)
    chosen = options.parse_args()
    stages = {}
    # Items read 90 days: three times the attempts, if the school was as busy all the time.
    for stage, attempts in (("calibration", chosen.attempts), ("items", 3 * chosen.attempts)):
        task = COSTS[stage]["task"]
        task = replace(task, run=task.run + PARTITIONS_SECONDS * chosen.skills / 100_000)
        stages[stage] = ({**COSTS[stage], "task": task}, attempts)
    shards = -(-chosen.skills // chosen.per_shard)
    machines = Machines(platform_cores=chosen.database_cores)
    parts = {
        "What the large night takes in all": totals(stages, shards, chosen.per_shard),
        f"Its hours, with {chosen.database_cores} cores in the platform's database": hours(
            stages, shards, chosen.per_shard, chosen.tasks, machines
        ),
    }
    text = "\n\n".join(f"### {title}\n\n{rows}" for title, rows in parts.items())
    print(text)
    if chosen.write:
        PAGE.write_text(PAGE.read_text().partition(MARK)[0] + f"{MARK}\n\n{text}\n")


if __name__ == "__main__":
    main()
