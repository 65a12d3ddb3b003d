"""A night that is larger than this machine: shards in a queue, tasks, and the databases that they share, simulated.

python benchmarks/plan.py [--skills 100000] [--attempts 1000000000] [--tasks 1 2 4 …] [--database-cores 8] [--write]

What a shard costs is measured: benchmarks/shards.json, which `shards.py --write` makes. What the machines are like
is assumed: `Machines` names each assumption with its source. First the simulation is held against the nights that were
measured here, on the cores that they shared; then it is asked for the large night.
"""

import argparse
import heapq
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

HERE = Path(__file__).parent
MARK = "## The simulation's tables"  # what follows it in plan.md is made here
PIECES = 20  # turns that a shard takes at its task and the databases
# Where a shard spends seconds on a core, by the names that shards.py gives them.
SPENDERS = {
    "task": "the runs, CPU ms a skill",
    "platform": "the platform's database, CPU ms a skill",
    "dagster": "Dagster's database, CPU ms a skill",
    "daemon": "daemon and code server, CPU ms a skill",
}
REQUEST_TO_END = "first shard's request to the last shard's end, s"
COVERING = "bytes of the covering index, a skill"
FEW = "a shard of 1,000 empty skills, 1,000 partitions present"
ALL = "a shard of 1,000 empty skills, all partitions present"


@dataclass(frozen=True)
class Machines:
    """What the large night runs on. Nothing in here was measured."""

    # A shard is one ECS task: provisioning, pulling the image, starting the container. AWS gives no
    # figure; 30 to 60 s is usual for an image of this size on Fargate.
    task_start_seconds: float = 45.0
    # db.r7g.2xlarge for the platform, db.r7g.large for Dagster. A core is taken to be as fast as one here.
    platform_cores: int = 8
    dagster_cores: int = 2
    # The run queue looks every 5 s (dequeue_interval_seconds, Dagster's default): half of it on average.
    queue_seconds: float = 2.5
    # The run queue and the sensors are one process each, and launch one run after the other.
    daemon_cores: int = 1
    # RDS gp3 from 400 GiB on: 500 MiB/s, 12,000 IOPS (docs.aws.amazon.com, "Amazon RDS DB instance storage").
    storage_bytes_a_second: float = 500 * 2**20
    # None of the window's index is in memory; each byte that is logged is written to its table later, too.
    writes_a_logged_byte: float = 2.0


@dataclass(frozen=True)
class Cost:
    """What something costs: so much a run, a skill and an attempt."""

    run: float
    skill: float
    attempt: float

    def of(self, skills: int, attempts: int) -> float:
        return self.run + self.skill * skills + self.attempt * attempts


Costs = Mapping[str, Cost]


def fitted(nights: list[dict[str, Any]], part: str) -> dict[str, Cost]:
    """The costs that explain the measured nights best, none below zero."""
    # The run of active_skills starts and ends like a shard's.
    runs = [night["shards"] + (part == "calibration") for night in nights]
    skills = [night["skills"] for night in nights]
    attempts = [night["skills"] * night["attempts"] for night in nights]
    # The daemon and its code server look at their sensors all the time, which is no shard's doing.
    watched = [night[f"{part}: from its beginning to its end, s"] for night in nights]

    def cost(name: str, unit: float, third: list[float] = attempts) -> Cost:
        causes = np.column_stack([runs, skills, third]).astype(float)
        totals = np.array([night[f"{part}: {name}"] * night["skills"] * unit for night in nights])
        # Relative to each total, or the largest night would decide alone; scaled, or the solver loses the attempts.
        weight, scale = 1 / np.maximum(totals, 1e-9), causes.max(axis=0)
        found, _ = nnls(causes / scale * weight[:, None], totals * weight)
        return Cost(*(found / scale).tolist())

    daemon = cost(SPENDERS["daemon"], 1 / 1000, watched)
    return {
        **{spender: cost(name, 1 / 1000) for spender, name in SPENDERS.items()},
        "daemon": Cost(daemon.run, daemon.skill, 0.0),
        "logged": cost("bytes of WAL, a skill", 1.0),
        "rows": cost("rows of attempts read, a skill", 1.0),
    }


@dataclass
class Station:
    """Something that serves so many at a time, first come, first served; None: everybody at once."""

    servers: int | None
    busy: float = 0.0
    _free: list[float] = field(default_factory=list)

    def serve(self, at: float, seconds: float) -> float:
        """When a visit ends that comes then; visits come in the order of time."""
        self.busy += seconds
        if self.servers is None:
            return at + seconds
        begin = at if len(self._free) < self.servers else max(at, heapq.heappop(self._free))
        heapq.heappush(self._free, begin + seconds)
        return begin + seconds


Visits = Iterator[tuple[Station, float]]


def play(shards: int, tasks: int, visits: Callable[[], Visits]) -> float:
    """When the last shard ends; `tasks` of them are under way at a time."""
    order = itertools.count()
    waiting = iter(range(shards))
    under_way: list[tuple[float, int, Visits]] = []

    def enter(at: float) -> None:
        if next(waiting, None) is not None:
            heapq.heappush(under_way, (at, next(order), visits()))

    for _ in range(tasks):
        enter(0.0)
    now = 0.0
    while under_way:
        now, _, shard = heapq.heappop(under_way)
        visit = next(shard, None)
        if visit is None:
            enter(now)
        else:
            station, seconds = visit
            heapq.heappush(under_way, (station.serve(now, seconds), next(order), shard))
    return now


def shard_visits(
    stations: Mapping[str, Station], costs: Costs, skills: int, attempts: int, machines: Machines | None
) -> Visits:
    """The life of a shard: launched by the daemon, started, then turn by turn read, computed, stored, reported."""

    def share(spender: str) -> float:
        cost = costs[spender]
        return cost.of(skills, attempts) - cost.run

    yield stations["queue"], Machines.queue_seconds
    for spender in ("daemon", "dagster", "platform"):
        yield stations[spender], costs[spender].run
    yield stations["daemon"], share("daemon")
    if machines is not None:
        yield stations["start"], machines.task_start_seconds
    yield stations["task"], costs["task"].run
    for _ in range(PIECES):
        if machines is not None:
            read = attempts * costs["index"].attempt
            written = costs["logged"].of(skills, attempts) * machines.writes_a_logged_byte
            yield stations["storage"], (read + written) / machines.storage_bytes_a_second / PIECES
        for spender in ("platform", "task", "dagster"):
            yield stations[spender], share(spender) / PIECES


def here(costs: Costs, night: Mapping[str, Any], cores: int) -> float:
    """The seconds that a measured night should have taken, all on the cores that it shared."""
    machine = Station(cores)
    stations = dict.fromkeys(SPENDERS, machine) | {"queue": Station(None)}
    skills = night["skills"] // night["shards"]
    attempts = skills * night["attempts"]
    return play(
        night["shards"], night["at once"], lambda: shard_visits(stations, costs, skills, attempts, None)
    )


def there(
    costs: Costs, skills: int, attempts: int, per_shard: int, tasks: int, machines: Machines
) -> tuple[float, dict[str, float]]:
    """The hours of a stage of the large night, and how busy each part is meanwhile, as a share."""
    stations = {
        "task": Station(None),
        "queue": Station(None),
        "start": Station(None),
        "platform": Station(machines.platform_cores),
        "dagster": Station(machines.dagster_cores),
        "daemon": Station(machines.daemon_cores),
        "storage": Station(1),
    }
    shards = -(-skills // per_shard)
    seconds = play(
        shards,
        tasks,
        lambda: shard_visits(stations, costs, per_shard, attempts // shards, machines),
    )
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


def table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|" + "---:|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)])


def compared(nights: list[dict[str, Any]], costs: Costs, cores: int) -> str:
    rows = [["skills", "attempts a skill", "shards", "at once", "measured, s", "simulated, s", "ratio"]]
    for night in nights:
        said, got = here(costs, night, cores), night[REQUEST_TO_END]
        told = [night["skills"], night["attempts"], night["shards"], night["at once"]]
        rows.append([*(f"{n:,}" for n in told), f"{got:.1f}", f"{said:.1f}", f"{said / got:.2f}"])
    return table(rows)


def large(
    stages: Mapping[str, tuple[Costs, int]], skills: int, per_shard: int, tasks: list[int], machines: Machines
) -> str:
    rows = [["tasks", *(f"{stage}, h" for stage in stages), "busiest part of the calibration", "next"]]
    for count in tasks:
        found = {
            stage: there(costs, skills, attempts, per_shard, count, machines)
            for stage, (costs, attempts) in stages.items()
        }
        _, busy = next(iter(found.values()))
        busiest = sorted(busy, key=lambda name: -busy[name])[:2]
        rows.append(
            [
                str(count),
                *(f"{hours:.2f}" for hours, _ in found.values()),
                *(f"{NAMES[name]} {busy[name]:.0%}" for name in busiest),
            ]
        )
    return table(rows)


def totals(stages: Mapping[str, tuple[Costs, int]], skills: int, per_shard: int) -> str:
    """What the night needs of each part in all, whatever the number of tasks."""
    rows = [
        ["stage", "rows read", "index read, GB", "WAL, GB", *(f"{NAMES[name]}, core h" for name in SPENDERS)]
    ]
    for stage, (costs, attempts) in stages.items():
        shards = -(-skills // per_shard)

        def total(name: str, costs: Costs = costs, attempts: int = attempts, shards: int = shards) -> float:
            return shards * costs[name].of(per_shard, attempts // shards)

        rows.append(
            [
                stage,
                f"{total('rows'):,.0f}",
                f"{attempts * costs['index'].attempt / 1e9:,.0f}",
                f"{total('logged') / 1e9:,.0f}",
                *(f"{total(name) / 3600:.1f}" for name in SPENDERS),
            ]
        )
    return table(rows)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--skills", type=int, default=100_000)
    options.add_argument("--attempts", type=int, default=10**9, help="in the 30 days that are calibrated")
    options.add_argument("--per-shard", type=int, default=1000, help="BKT_SKILLS_PER_RUN")
    options.add_argument("--tasks", type=int, nargs="+", default=[1, 2, 4, 10, 20, 50, 100, 200])
    options.add_argument("--write", action="store_true", help="renew the tables of benchmarks/plan.md")
    options.add_argument("--database-cores", type=int, nargs="+", default=[8])
    options.add_argument(
        "--cores", type=int, default=2, help="of the machine that shards.json was measured on"
    )
    chosen = options.parse_args()
    nights = json.loads((HERE / "shards.json").read_text())
    index = nights[0][COVERING] / nights[0]["attempts"]
    costs = {
        part: fitted(nights, part) | {"index": Cost(0.0, 0.0, index)} for part in ("calibration", "items")
    }
    # Each run reads the keys of all partitions: what that takes at the documented limit is the run's.
    steps = json.loads((HERE / "partitions.json").read_text())
    more = max(0.0, steps[ALL] - steps[FEW]) * chosen.skills / 100_000
    at_large = {
        part: of_part | {"task": replace(of_part["task"], run=of_part["task"].run + more)}
        for part, of_part in costs.items()
    }
    # Items read 90 days: three times the attempts, where the school was as busy all the time.
    stages = {
        "calibration": (at_large["calibration"], chosen.attempts),
        "items": (at_large["items"], 3 * chosen.attempts),
    }
    parts = {
        "Measured here, and simulated": compared(nights, costs["calibration"], chosen.cores),
        "What the large night takes in all": totals(stages, chosen.skills, chosen.per_shard),
        **{
            f"Its hours, with {cores} cores in the platform's database": large(
                stages,
                chosen.skills,
                chosen.per_shard,
                chosen.tasks,
                Machines(platform_cores=cores),
            )
            for cores in chosen.database_cores
        },
    }
    text = "\n\n".join(f"### {title}\n\n{rows}" for title, rows in parts.items())
    print(text)
    if chosen.write:
        page = HERE / "plan.md"
        page.write_text(page.read_text().partition(MARK)[0] + f"{MARK}\n\n{text}\n")


if __name__ == "__main__":
    main()
