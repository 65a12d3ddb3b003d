"""The night in 1, 2 and 4 shard runs side by side, by the real daemon: the same rows, and what a shard costs.

python benchmarks/shards.py [--skills 1000] [--students 125] [--shards 1 2 4] [--write]

Makes one school of that many skills (8 attempts a student) on an embedded Postgres. For each number of
shards it copies the school, turns the schedule back to before the last 07:00 UTC and starts `dagster-daemon`,
which finds the tick: active_skills, the shards, nightly_irt, the summary. dagster.yaml is the project's, but
that as many runs may go at once as there are shards. Linux only: seconds on a core are read from /proc.

With --write one shard of a fifth of the skills with ten times the students follows, so that the cost of a
skill can be told from that of an attempt: plan.py takes both from shards.json.
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
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import dagster as dg
import psycopg
from nights import ATTEMPTS, STUDENTS, enrol
from processes import Meter
from psycopg import sql

from bkt_pipeline.automation import SHARD_TAG
from bkt_pipeline.db import embedded
from bkt_pipeline.db.database import open_database
from bkt_pipeline.model import warm_up
from bkt_pipeline.runs import PROCESS_TAG
from bkt_pipeline_tests.deployment import Deployment

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


def last_tick() -> dt.datetime:
    """The last 07:00 UTC that is some minutes ago."""
    now = dt.datetime.now(dt.UTC)
    tick = now.replace(hour=7, minute=0, second=0, microsecond=0)
    return tick if tick < now - dt.timedelta(minutes=10) else tick - dt.timedelta(days=1)


PAGE = """# A night in shards

{cores} cores, Python {python}; the database, the daemon and the shards share them. {attempts:,} attempts a skill.
The shards go side by side through the queued run coordinator, each a process of its own; a run's seconds include its
start, some seconds of imports. "Tick" is when the schedule's run was requested: the daemon looks at the schedule
at each full minute.

Made by `{command}`.

{same}

{text}

One shard of {longer_skills:,} skills with {longer_attempts:,} attempts each:

{longer}
"""


class Night:
    """One night in so many shards on a copy of the school."""

    def __init__(self, school: str, home: Path, skills: int, shards: int, tick: dt.datetime) -> None:
        self.home, self.skills, self.shards, self.tick = home, skills, shards, tick
        self.folder = home / f"{shards}-shards"
        self.folder.mkdir()
        self.names = {what: f"{what}_{shards}" for what in ("platform", "dagster")}
        with psycopg.connect(school, autocommit=True, dbname="postgres") as connection:
            for what, template in (("platform", "bkt"), ("dagster", "template0")):
                statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
                names = sql.Identifier(self.names[what]), sql.Identifier(template)
                connection.execute(statement.format(*names))
        self.urls = {what: re.sub(r"/bkt\?", f"/{name}?", school) for what, name in self.names.items()}

    def run(self) -> tuple[Numbers, list[Numbers], Rows]:
        """What the night cost, what each shard cost, and the rows that the night left."""
        settings = (HERE.parent / "dagster.yaml").read_text()
        at_once = re.sub(r"(max_concurrent_runs:) \d+", rf"\1 {self.shards}", settings)
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
                    "wall": wall,
                    "cpu": process.seconds,
                    "wall ms a skill": 1000 * wall / skills,
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


def tables(nights: dict[int, tuple[Numbers, list[Numbers]]]) -> str:
    counts = list(nights)
    lines = [
        "| | " + " | ".join(f"{k} shard{'s' * (k > 1)}" for k in counts) + " |",
        "|---|" + "---:|" * len(counts),
    ]
    for name in next(iter(nights.values()))[0]:
        values = [nights[k][0][name] for k in counts]
        lines.append(
            f"| {name} | " + " | ".join(f"{value:,.{1 if value < 1000 else 0}f}" for value in values) + " |"
        )
    names = list(next(iter(nights.values()))[1][0])[1:]
    lines += ["", "| shard | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for k, (_, shards) in nights.items():
        for shard in shards:
            cells = " | ".join(f"{shard[name]:,.1f}" for name in names)
            lines.append(f"| {shard['number']:.0f} of {k} | {cells} |")
    return "\n".join(lines)


def measure(skills: int, students: int, shards: list[int]) -> dict[int, tuple[Numbers, list[Numbers]]]:
    """A school, and a night of it for each number of shards."""
    home, tick = Path(tempfile.mkdtemp(prefix="bkt-shards-")), last_tick()
    home.chmod(0o755)
    os.environ["BKT_PIPELINE_HOME"] = str(home)
    nights, rows = {}, {}
    try:
        school = enrol(skills, students, tick)
        os.environ["DATABASE_URL"] = school
        open_database().close()
        for number in shards:
            *nights[number], rows[number] = Night(school, home, skills, number, tick).run()
            print(f"a night in {number} done", file=sys.stderr, flush=True)
    finally:
        embedded.release(home)
        shutil.rmtree(home, ignore_errors=True)
    first = next(iter(rows.values()))
    differ = [number for number, found in rows.items() if found != first]
    if differ or len(first["skill_bkt_params"]) != skills:
        raise SystemExit(f"the rows of {differ} shards are others, or not one for each skill")
    return nights


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--skills", type=int, default=1000)
    options.add_argument("--students", type=int, default=STUDENTS, help="of each skill, with 8 attempts each")
    options.add_argument("--shards", type=int, nargs="+", default=[1, 2, 4])
    options.add_argument("--write", action="store_true", help="write benchmarks/shards.md and shards.json")
    chosen = options.parse_args()
    warm_up()
    nights = measure(chosen.skills, chosen.students, chosen.shards)
    text = tables(nights)
    same = f"All {chosen.skills:,} rows of skill_bkt_params (but calibrated_at) and those of item_irt_params were the same."
    print(f"{text}\n\n{same}")
    if chosen.write:
        longer = (chosen.skills // 5, 10 * chosen.students)
        schools = {(chosen.skills, chosen.students): nights, longer: measure(*longer, [1])}
        (HERE / "shards.json").write_text(
            json.dumps([told(*school, nights) for school, nights in schools.items()], indent=1)
        )
        (HERE / "shards.md").write_text(
            PAGE.format(
                cores=os.cpu_count(),
                python=platform.python_version(),
                attempts=chosen.students * ATTEMPTS,
                command=" ".join(["python benchmarks/shards.py", *sys.argv[1:]]),
                same=same,
                text=text,
                longer=tables(schools[longer]),
                longer_skills=longer[0],
                longer_attempts=longer[1] * ATTEMPTS,
            )
        )


def told(skills: int, students: int, nights: dict[int, tuple[Numbers, list[Numbers]]]) -> dict[str, Any]:
    """What plan.py takes."""
    return {
        "skills": skills,
        "attempts": students * ATTEMPTS,
        "nights": [{"shards": number, **costs} for number, (costs, _) in nights.items()],
    }


if __name__ == "__main__":
    main()
