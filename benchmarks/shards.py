"""Nights in 1, 2 and 4 shard runs side by side, by the real daemon: the same rows, and what each shard costs.

python benchmarks/shards.py [--parts cut grown longer] [--skills 1000] [--write]

Each night is on a copy of a school (1,000 attempts a skill) on an embedded Postgres: the schedule is turned back to
before the last 07:00 UTC and `dagster-daemon` started, which finds the tick: active_skills, the shards, nightly_irt, the
summary. dagster.yaml is the project's, but for how many runs may go at once. Linux only: seconds on a core are
read from /proc. The parts:

cut     one school of so many skills, in 1, 2 and 4 shards
grown   schools of a half, one and two times as many, in 1, 2 and 4 shards of one size; the 4 also two at a time
longer  one shard of a fifth of the skills with ten times the attempts each, so that plan.py can tell the
        cost of a skill from that of an attempt

With --write the nights of these parts are renewed in shards.json, and shards.md is made of it. 3, 5 and 1 minutes.
"""

import argparse
import datetime as dt
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import dagster as dg
import numpy as np
import psycopg
from nights import ATTEMPTS, STUDENTS, enrol
from processes import Meter
from psycopg import sql

from bkt_pipeline.db.database import open_database
from bkt_pipeline.defs.tags import SHARD_TAG
from bkt_pipeline.embedded import server as embedded
from bkt_pipeline.instance.runs import PROCESS_TAG
from bkt_pipeline.model import warm_up
from bkt_pipeline_tests.helpers.deployment import Deployment, last_tick

HERE = Path(__file__).parent
PATIENCE = 3600
TARGET = "SELECT skill_id, p_l0, p_transit, p_slip, p_guess, log_likelihood FROM skill_bkt_params ORDER BY 1"
ITEMS = "SELECT item_id, status, irt_a, irt_b, n_attempts FROM bkt_pipeline.item_irt_params ORDER BY 1"
LAST_OUTCOME = "SELECT max(recorded_at) FROM bkt_pipeline.night_skills"
COUNTERS = """
    SELECT extract(epoch FROM clock_timestamp()) AS clock,
           (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'attempts')
         + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'attempts') AS rows,
           (SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()) AS pages,
           (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS commits,
           pg_current_wal_lsn() - '0/0' AS wal,
           (SELECT pg_relation_size('attempts_item_id_created_at')) AS covering
"""
REQUEST_TO_END = "first shard's request to the last shard's end, s"
CLOCK = "clock"
COVERING = "bytes of the covering index"
Numbers = dict[str, float]
Rows = dict[str, list[tuple[Any, ...]]]

# The schools of each part, as multiples of the skills and of the students of a skill, and the nights of each:
# how many shards, and how many of them at once.
PARTS: dict[str, list[tuple[float, int, list[tuple[int, int]]]]] = {
    "cut": [(1, 1, [(1, 1), (2, 2), (4, 4)])],
    "grown": [(0.5, 1, [(1, 1)]), (1, 1, [(2, 2)]), (2, 1, [(4, 4), (4, 2)])],
    "longer": [(0.2, 10, [(1, 1)])],
}


class Night:
    """One night in so many shards on a copy of the school, so many of them at once."""

    def __init__(
        self, school: str, home: Path, skills: int, shards: int, at_once: int, tick: dt.datetime
    ) -> None:
        self.home, self.skills, self.shards, self.at_once, self.tick = home, skills, shards, at_once, tick
        self.folder = home / f"{shards}-shards-{at_once}-at-once"
        self.folder.mkdir()
        self.names = {what: f"{what}_{shards}_{at_once}" for what in ("platform", "dagster")}
        with psycopg.connect(school, autocommit=True, dbname="postgres") as connection:
            for what, template in (("platform", "bkt"), ("dagster", "template0")):
                statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
                names = sql.Identifier(self.names[what]), sql.Identifier(template)
                connection.execute(statement.format(*names))
        self.urls = {what: re.sub(r"/bkt\?", f"/{name}?", school) for what, name in self.names.items()}

    def run(self) -> tuple[Numbers, list[Numbers], Rows]:
        """What the night cost, what each shard cost, and the rows that the night left."""
        settings = (HERE.parent / "dagster.yaml").read_text()
        at_once = re.sub(r"(max_concurrent_runs:) \d+", rf"\1 {self.at_once}", settings)
        (self.folder / "dagster.yaml").write_text(at_once)
        environment = {
            "DATABASE_URL": self.urls["platform"],
            "DAGSTER_POSTGRES_URL": self.urls["dagster"],
            "DAGSTER_HOME": str(self.folder),
            "BKT_SKILLS_PER_RUN": str(-(-self.skills // self.shards)),
        }
        os.environ.update(environment)
        with dg.DagsterInstance.get() as instance:
            deployment = Deployment(instance, self.folder, environment)
            try:
                return self._driven(deployment)
            finally:
                deployment.stop_all()

    def _driven(self, deployment: Deployment) -> tuple[Numbers, list[Numbers], Rows]:
        deployment.start_daemon()
        deployment.turn_schedule_back(self.tick - dt.timedelta(minutes=1))
        daemon = deployment.start_daemon()
        server = self.home / "postgres" / "pgdata" / "postmaster.pid"
        meter = Meter(daemon.pid, int(server.read_text().split()[0]))
        meter.look()
        spent, counted = [meter.seconds(set())], [self._counters()]
        meter.start()
        for job, runs in (("calibration", self.shards), ("nightly_irt", self.shards), ("night_summary", 1)):
            deployment.wait_for(job, lambda job=job, runs=runs: ended(deployment, job) == runs, PATIENCE)
            of_runs = {process_of(run) for run in deployment.instance.get_runs() if run.is_finished}
            spent.append(meter.seconds(of_runs))
            counted.append(self._counters())
        meter.end()
        records = list(deployment.instance.get_run_records())
        failed = [r.dagster_run for r in records if r.dagster_run.status != dg.DagsterRunStatus.SUCCESS]
        if failed:
            raise SystemExit(f"{failed}\n{(self.folder / 'processes.log').read_text()[-4000:]}")
        rows = {"skill_bkt_params": self._ask(TARGET), "item_irt_params": self._ask(ITEMS)}
        return (
            self._times(records) | self._costs(spent, counted),
            self._of_shards(records, meter),
            rows,
        )

    def _ask(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.urls["platform"]) as connection:
            return connection.execute(statement).fetchall()

    def _counters(self) -> Numbers:
        (row,) = self._ask(COUNTERS)
        names = (CLOCK, "rows of attempts read", "pages read", "commits", "bytes of WAL", COVERING)
        return {name: float(value) for name, value in zip(names, row, strict=True)}

    def _times(self, records: list[dg.RunRecord]) -> Numbers:
        def of(job: str) -> list[dg.RunRecord]:
            return [record for record in records if record.dagster_run.job_name == job]

        (first,), (last,) = of("active_skills_job"), of("night_summary")
        began = first.create_timestamp.timestamp()
        shards, items = of("calibration"), [r.create_timestamp.timestamp() for r in of("nightly_irt")]
        ((outcome,),) = self._ask(LAST_OUTCOME)
        return {
            "tick to the first shard's start, s": min(r.start_time for r in shards) - began,
            "tick to the last outcome, s": outcome.timestamp() - began,
            "tick to nightly_irt, s": min(items) - began,
            "tick to the summary's end, s": last.end_time - began,
            REQUEST_TO_END: max(r.end_time for r in shards)
            - min(r.create_timestamp.timestamp() for r in shards),
        }

    def _costs(self, spent: list[Counter[str]], counted: list[Numbers]) -> Numbers:
        costs: Numbers = {}
        names = {
            "runs": "the runs",
            f"database {self.names['platform']}": "the platform's database",
            f"database {self.names['dagster']}": "Dagster's database",
            "dagster": "daemon and code server",
        }
        for part, at in (("calibration", 0), ("items", 1)):
            grown = {kind: spent[at + 1][kind] - spent[at][kind] for kind in spent[at + 1]}
            for kind, name in names.items():
                costs[f"{part}: {name}, CPU ms a skill"] = 1000 * grown.get(kind, 0.0) / self.skills
            costs[f"{part}: everything else on the machine, CPU s"] = grown["others"]
            costs[f"{part}: from its beginning to its end, s"] = counted[at + 1][CLOCK] - counted[at][CLOCK]
            for name in sorted(counted[0].keys() - {CLOCK, COVERING}):
                grew = counted[at + 1][name] - counted[at][name]
                costs[f"{part}: {name}, a skill"] = grew / self.skills
        with psycopg.connect(self.urls["dagster"]) as connection:
            ((events,),) = connection.execute("SELECT count(*) FROM event_logs").fetchall()
        return costs | {
            "the night's rows in Dagster's event log, a skill": events / self.skills,
            f"{COVERING}, a skill": counted[0][COVERING] / self.skills,
        }

    def _of_shards(self, records: list[dg.RunRecord], meter: Meter) -> list[Numbers]:
        processes = {process.pid: process for process in meter.processes()}
        found = []
        for record in records:
            run = record.dagster_run
            if run.job_name != "calibration":
                continue
            process, skills = processes[process_of(run)], -(-self.skills // self.shards)
            wall = record.end_time - record.start_time
            found.append(
                {
                    "number": int(run.tags[SHARD_TAG].split()[0]),
                    "wall s": wall,
                    "CPU s": process.seconds,
                    "CPU ms a skill": 1000 * process.seconds / skills,
                    "MiB": process.mebibytes,
                }
            )
        return sorted(found, key=lambda shard: shard["number"])


def ended(deployment: Deployment, job: str) -> int:
    return sum(run.is_finished for run in deployment.runs(job))


def process_of(run: dg.DagsterRun) -> int:
    """The number of the process that the run was in."""
    return int(run.tags[PROCESS_TAG].split()[1])


def nights_of(part: str, skills: int) -> list[dict[str, Any]]:
    """The nights of a part; ends where they leave other rows, or not one for each skill."""
    found, left = [], []
    for as_large, as_many, cuts in PARTS[part]:
        for night, rows in measure(round(as_large * skills), as_many * STUDENTS, cuts):
            found.append({"part": part, **night})
            left.append({table: set(of_table) for table, of_table in rows.items()})
    # The n-th skill has the same attempts in each of the schools.
    for night, rows in zip(found, left, strict=True):
        for table, of_table in rows.items():
            if len(of_table) != night["skills"] or not of_table <= left[-1][table]:
                raise SystemExit(f"{table} of {title(night)}: other rows, or not one for each skill")
    return found


def measure(skills: int, students: int, cuts: list[tuple[int, int]]) -> Iterator[tuple[dict[str, Any], Rows]]:
    """A school, and for each number of shards and how many of them at once a night of it with its rows."""
    home, tick = Path(tempfile.mkdtemp(prefix="bkt-shards-")), last_tick(dt.datetime.now(dt.UTC))
    home.chmod(0o755)
    os.environ["BKT_PIPELINE_HOME"] = str(home)
    try:
        school = enrol(skills, students, tick)
        os.environ["DATABASE_URL"] = school
        open_database().close()
        for shards, at_once in cuts:
            costs, each, rows = Night(school, home, skills, shards, at_once, tick).run()
            night = {"skills": skills, "attempts": students * ATTEMPTS, "shards": shards, "at once": at_once}
            print(f"{night} done", file=sys.stderr, flush=True)
            yield {**night, **costs, "each shard": each}, rows
    finally:
        embedded.release(home)
        shutil.rmtree(home, ignore_errors=True)


PAGE = """# A night in shards

The shards of a night, started by the daemon through the queued run coordinator: each a process of its own, all on
one Postgres. Two questions: does it matter to the rows how a school is cut, and what does another shard cost?

{cores} cores ({processor}), Python {python}; the database, the daemon and the shards share them. A skill has
{attempts:,} attempts. CPU is seconds on a core, from the process's first import to its end. "Tick" is when the schedule's
run was requested; the daemon looks at the schedule at each full minute. All that was measured is in shards.json.

Made by `{command}`.

## One school, cut into 1, 2 and 4 shards: the same rows

All {skills:,} rows of skill_bkt_params (but calibrated_at) and all of item_irt_params are the same, however it is cut.

{cut}

A run takes about {start:.1f} s of CPU besides its skills, and {each:.0f} ms a skill: the line through all shards on this page.
So a skill is dearer in a small shard, where the start is divided among fewer. A start is imports (Dagster, its Postgres
storage, numba) and loading compiled kernels; nothing large is imported that a shard does not use.
`BKT_SKILLS_PER_RUN` is 1,000 unless it is set.

## A school that grows by shards of {size:,} skills: each shard costs the same

Schools of {sizes} skills in 1, 2 and 4 shards, all of them at once; and the 4 once more, two at a
time. A skill's rows are the same in all of them.

{grown}

- **What a shard costs is flat**: {low:.1f} to {high:.1f} s of CPU, as many rows read, as much memory, be it the only one or one
  of four. Four at once on two cores take {crowd:.0%} more CPU each than the same four two at a time: that is what sharing a
  core costs, and shards on cores of their own do not.
- **Seconds by the clock are flat up to the number of cores**, here two, and cannot be beyond: four at once have half a core
  each. Shards in ECS tasks have cores of their own.
- "Everything else" is what the machine did besides the night while the shards were calibrated: a measurement was quiet
  where it is small.
"""


def title(night: Mapping[str, Any]) -> str:
    apart = f", {night['at once']} at a time" if night["at once"] < night["shards"] else ""
    return f"{night['shards']} shard{'s' * (night['shards'] > 1)}{apart}"


def table(nights: Sequence[Mapping[str, Any]]) -> str:
    """What the page shows of some nights, one a column."""

    def each(name: str, digits: int) -> list[str]:
        return [", ".join(f"{shard[name]:.{digits}f}" for shard in night["each shard"]) for night in nights]

    def of_night(name: str, digits: int = 1) -> list[str]:
        return [f"{night[name]:,.{digits}f}" for night in nights]

    rows = {
        "skills": of_night("skills", 0),
        "CPU s of each shard": each("CPU s", 1),
        "CPU ms a skill of each shard": each("CPU ms a skill", 1),
        "rows of attempts read, a skill": of_night("calibration: rows of attempts read, a skill", 0),
        **{
            f"{name}'s database, CPU ms a skill": of_night(f"calibration: {name}'s database, CPU ms a skill")
            for name in ("the platform", "Dagster")
        },
        "MiB of each shard": each("MiB", 0),
        "seconds of each shard by the clock": each("wall s", 1),
        "tick to the last outcome, s": of_night("tick to the last outcome, s"),
        "everything else on the machine, CPU s": of_night(
            "calibration: everything else on the machine, CPU s"
        ),
    }
    lines = ["| | " + " | ".join(map(title, nights)) + " |", "|---|" + "---:|" * len(nights)]
    lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()]
    return "\n".join(lines)


def page(nights: Sequence[Mapping[str, Any]], command: str) -> str:
    cut, grown = ([night for night in nights if night["part"] == part] for part in ("cut", "grown"))
    shards = [
        (night["skills"] / night["shards"], shard["CPU s"])
        for night in [*cut, *grown]
        for shard in night["each shard"]
    ]
    a_skill, start = np.polyfit(*zip(*shards, strict=True), 1)
    of_one_size = [[shard["CPU s"] for shard in night["each shard"]] for night in grown]
    (processor,) = set(re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()))
    return PAGE.format(
        cores=os.cpu_count(),
        processor=processor,
        python=platform.python_version(),
        attempts=cut[0]["attempts"],
        command=command,
        skills=cut[0]["skills"],
        cut=table(cut),
        start=start,
        each=1000 * a_skill,
        size=grown[0]["skills"],
        sizes=" and ".join(", ".join(f"{night['skills']:,}" for night in grown[:3]).rsplit(", ", 1)),
        grown=table(grown),
        low=min(map(min, of_one_size)),
        high=max(map(max, of_one_size)),
        crowd=np.mean(of_one_size[2]) / np.mean(of_one_size[3]) - 1,
    )


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options.add_argument("--skills", type=int, default=1000)
    options.add_argument("--write", action="store_true", help="renew benchmarks/shards.json and shards.md")
    chosen = options.parse_args()
    warm_up()
    kept = HERE / "shards.json"
    nights = {part: nights_of(part, chosen.skills) for part in chosen.parts}
    for some in nights.values():
        print(table(some))
    if chosen.write:
        before = json.loads(kept.read_text()) if kept.exists() else []
        all_of_them = [
            night
            for part in PARTS
            for night in nights.get(part, [night for night in before if night["part"] == part])
        ]
        kept.write_text(json.dumps(all_of_them, indent=1) + "\n")
        (HERE / "shards.md").write_text(page(all_of_them, "python benchmarks/shards.py --write"))


if __name__ == "__main__":
    main()
