"""What 100,000 partitions of one asset cost Dagster and the code here: the most that Dagster's documentation advises.

python benchmarks/partitions.py [--skills 100000] [--write]

A platform of that many skills without an attempt, on an embedded Postgres, and a real instance by the project's
dagster.yaml. Every line is a step that a night, its sensors or its UI takes; each is timed once.
"""

import argparse
import datetime as dt
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import dagster as dg
import psycopg
from nights import enrol
from sqlalchemy import Table, func, insert, literal, select

from bkt_pipeline.calibration.rules import HISTORY_NIGHTS
from bkt_pipeline.db.database import Database, open_database
from bkt_pipeline.db.fits import earlier_fits
from bkt_pipeline.db.schema import night_skills, skill_fits
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.partitions import (
    RANGE_END,
    RANGE_START,
    partition_change,
    range_tags,
    shards,
    skill_partitions,
)
from bkt_pipeline.defs.resources import PlatformDatabase
from bkt_pipeline.defs.sensors import nightly_irt
from bkt_pipeline.defs.tags import night_tags
from bkt_pipeline.embedded import server as embedded
from bkt_pipeline.instance.event_log import batched_events
from bkt_pipeline.model import warm_up

HERE = Path(__file__).parent
A_SHARD = 1000
NIGHTS = 10  # in the history; bkt-pipeline prune keeps 90
FEW = f"a shard of {A_SHARD:,} empty skills, {A_SHARD:,} partitions present"
ALL = f"a shard of {A_SHARD:,} empty skills, all partitions present"
PARAMS = dg.AssetKey("skill_bkt_params")
MATERIALISED = dg.DagsterEventType.ASSET_MATERIALIZATION
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Stopwatch:
    """Times steps and keeps them in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, what: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        done = work()
        self.seconds[what] = time.perf_counter() - started
        print(f"{self.seconds[what]:8.2f} s  {what}", file=sys.stderr, flush=True)
        return done


@dg.asset(
    key=PARAMS,
    partitions_def=skill_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    output_required=False,
)
def reported(context: dg.AssetExecutionContext):
    """Only reports its partitions, as `skill_bkt_params` does."""
    with batched_events(context.instance, context.run.run_id):
        for key in context.partition_keys:
            yield dg.AssetMaterialization(
                PARAMS, partition=key, metadata={"outcome": "skipped", "attempts": 0}
            )


def add_skills(url: str, first: int, last: int) -> None:
    statement = "COPY skills (id, name, active) FROM STDIN"
    with psycopg.connect(url) as connection, connection.cursor() as cursor, cursor.copy(statement) as copy:
        for number in range(first, last):
            # As long as a UUID, which is what most platforms have.
            copy.write_row([f"skill-{number:030}", f"{number}", "t"])


def fill_ledger(database: Database, as_of: dt.datetime) -> None:
    """An outcome for each skill in this night, and a fit in each of the last nights."""
    skills = database.platform.skills

    def rows(table: Table, night: dt.date, values: dict[str, Any]) -> Any:
        given = {"night": night, "as_of": as_of, "run_id": "a run", **values}
        columns = {name: literal(value, table.c[name].type) for name, value in given.items()}
        for column in table.c:
            if column.name not in {*columns, "skill_id"} and not column.nullable:
                zero = func.now() if "timestamp" in str(column.type).lower() else literal(0, column.type)
                columns[column.name] = zero
        return insert(table).from_select(["skill_id", *columns], select(skills.c.id, *columns.values()))

    fit = {
        "tier": "good", "flags": [], "estimator": "grid", "code_version": "1", "attempts": 1000, "log_likelihood": -500.0,
        "p_slip": 0.1, "p_guess": 0.2,
    }  # fmt: skip
    tonight = as_of.date()

    def fill(connection: Any) -> None:
        connection.execute(rows(night_skills, tonight, {"outcome": "calibrated", "attempts": 1000}))
        for ago in range(NIGHTS):
            connection.execute(rows(skill_fits, tonight - dt.timedelta(days=ago), fit))

    database.run(lambda connection: connection.execute(night_skills.delete()))
    database.run(fill)


def measure(count: int) -> dict[str, float]:
    """All steps, on a platform of that many skills."""
    watch = Stopwatch()
    url = enrol(0)
    os.environ["DATABASE_URL"] = url
    as_of = dt.datetime.now(dt.UTC)
    tags = night_tags(as_of)
    definitions = build_definitions()

    def run(job: str, more: dict[str, str]) -> dg.ExecuteInProcessResult:
        return definitions.resolve_job_def(job).execute_in_process(
            instance=instance, run_config=QUIET, tags=tags | more
        )

    def keys() -> Any:
        return instance.get_dynamic_partitions(skill_partitions.name)

    with open_database() as database, dg.DagsterInstance.get() as instance:
        add_skills(url, 0, A_SHARD)
        run("active_skills_job", {})
        first, last = f"skill-{0:030}", f"skill-{A_SHARD - 1:030}"
        shard = partial(run, "calibration", range_tags(first, last))
        shard()
        watch.time(FEW, shard)
        add_skills(url, A_SHARD, count)
        watch.time("the run active_skills that adds them", partial(run, "active_skills_job", {}))
        watch.time("the run active_skills without a change", partial(run, "active_skills_job", {}))
        watch.time(ALL, shard)
        present = watch.time("get_dynamic_partitions", keys)
        watch.time(
            "comparing the active skills with the partitions",
            lambda: partition_change(present[::-1], present),
        )
        pieces = watch.time(f"cutting them into shards of {A_SHARD:,}", lambda: shards(present, A_SHARD))
        middle = dg.PartitionKeyRange(
            pieces[len(pieces) // 2][RANGE_START], pieces[len(pieces) // 2][RANGE_END]
        )

        def in_range() -> Any:
            with dg.partition_loading_context(dynamic_partitions_store=instance):
                return skill_partitions.get_partition_keys_in_range(middle)

        some = watch.time(f"the keys of a range of {A_SHARD:,}", in_range)
        watch.time(f"a subset of {A_SHARD:,}", lambda: skill_partitions.subset_with_partition_keys(some))
        everything = partial(
            dg.materialize,
            [reported],
            instance=instance,
            tags=range_tags(present[0], present[-1]),
            run_config=QUIET,
        )
        watch.time("one run that materialises them all, nothing computed", everything)
        latest = instance.get_latest_storage_id_by_partition
        watch.time(
            f"get_latest_storage_id_by_partition of {A_SHARD:,}",
            lambda: latest(PARAMS, MATERIALISED, set(some)),
        )
        watch.time("get_latest_storage_id_by_partition of all", lambda: latest(PARAMS, MATERIALISED))
        watch.time("get_materialized_partitions", lambda: instance.get_materialized_partitions(PARAMS))
        statuses = partial(instance.get_status_by_partition, PARAMS, present, skill_partitions)
        watch.time("the status of every partition, as the UI shows it, first time", statuses)
        watch.time("the same again", statuses)
        fill_ledger(database, as_of)
        history = partial(earlier_fits, keys=some, night=as_of.date(), nights=HISTORY_NIGHTS)
        watch.time(
            f"the earlier fits of {A_SHARD:,}, {NIGHTS} nights in the history", lambda: database.run(history)
        )
        resource = PlatformDatabase()
        resource.get()

        def evaluate() -> Any:
            with dg.build_sensor_context(instance=instance, resources={"database": resource}) as context:
                return nightly_irt(context)

        found = watch.time("the sensor nightly_irt when it starts the items", evaluate)
        if not found.run_requests:
            raise SystemExit(f"the sensor did not start the items: {found}")
        watch.time(
            f"the run night_summary, {NIGHTS} nights in the history", partial(run, "night_summary", {})
        )
    return watch.seconds


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--skills", type=int, default=100_000)
    options.add_argument(
        "--write", action="store_true", help="write benchmarks/partitions.md and partitions.json"
    )
    chosen = options.parse_args()
    home = Path(tempfile.mkdtemp(prefix="bkt-partitions-"))
    home.chmod(0o755)
    shutil.copy(HERE.parent / "dagster.yaml", home)
    os.environ |= {"BKT_PIPELINE_HOME": str(home), "DAGSTER_HOME": str(home)}
    os.environ.pop("DAGSTER_POSTGRES_URL", None)
    warm_up()
    try:
        found = measure(chosen.skills)
    finally:
        embedded.release(home)
        shutil.rmtree(home, ignore_errors=True)
    lines = ["| step | seconds |", "|---|---:|"]
    text = "\n".join([*lines, *(f"| {what} | {seconds:,.2f} |" for what, seconds in found.items())])
    print(text)
    if chosen.write:
        (HERE / "partitions.json").write_text(json.dumps(found, indent=1) + "\n")
        (HERE / "partitions.md").write_text(
            f"# What {chosen.skills:,} partitions cost\n\n"
            f"{os.cpu_count()} cores, Python {platform.python_version()}, the embedded server on the same machine; "
            "each step once. No skill has an attempt: this is what the partitions cost, not what is in them.\n\n"
            f"Made by `{' '.join(['python benchmarks/partitions.py', *sys.argv[1:]])}`.\n\n{text}\n"
        )


if __name__ == "__main__":
    main()
