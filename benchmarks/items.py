"""A night's item calibration from rows in Postgres to rows in Postgres: 10,000 items x 200 answers.

    python benchmarks/items.py [--skills 500] [--items 20] [--answers 200] [--repeats 3]

On the embedded server, in databases of its own that are dropped afterwards: 500 skills of 20 items, 80 students a skill
who answer 50 times each, the skills' parameters standing. Each repeat is a process of its own, so that its peak memory
is its own; the first is left out, as it may compile.
"""

import argparse
import datetime as dt
import os
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from urllib.parse import urlsplit

import numpy as np
import psycopg

from bkt_pipeline.calibration.items import ItemRules
from bkt_pipeline.db.connection import make_engine, transaction
from bkt_pipeline.db.database import open_database
from bkt_pipeline.db.source_tables import create_source_tables
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.assets.items import READ_AT_ONCE, judge_batch
from bkt_pipeline.defs.io_manager import PostgresUpsertIOManager
from bkt_pipeline.defs.partitions import range_tags
from bkt_pipeline.defs.progress import batches
from bkt_pipeline.defs.resources import PlatformDatabase
from bkt_pipeline.defs.tags import night_tags
from bkt_pipeline.embedded import server as embedded
from bkt_pipeline.embedded.home import home
from bkt_pipeline.instance.storage import dagster_instance

AS_OF = dt.datetime(2026, 1, 1, 7, tzinfo=dt.UTC)
STUDENTS = 80
NAME = "bkt_benchmark_items"


def fill(url: str, skills: int, items: int, answers: int) -> None:
    """Answers of which about 60% are right; what they say plays no part in the time."""
    rng = np.random.default_rng(1)
    length = items * answers // STUDENTS
    engine = make_engine(url)
    with transaction(engine) as connection:
        create_source_tables(connection)
    engine.dispose()
    os.environ["DATABASE_URL"] = url
    open_database().close()
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY skills (id, active) FROM STDIN") as copy:
            for skill in range(skills):
                copy.write_row((f"skill {skill}", True))
        with cursor.copy("COPY items (id, skill_id) FROM STDIN") as copy:
            for skill in range(skills):
                for item in range(items):
                    copy.write_row((f"item {skill} {item}", f"skill {skill}"))
        cursor.execute("INSERT INTO skill_bkt_params SELECT id, 0.3, 0.1, 0.1, 0.2, NULL, now() FROM skills")
        with cursor.copy("COPY attempts (student_id, item_id, is_correct, created_at) FROM STDIN") as copy:
            for attempt in range(length):
                moment = AS_OF - dt.timedelta(days=80) + attempt * dt.timedelta(days=1)
                for skill in range(skills):
                    chosen, right = rng.integers(0, items, STUDENTS), rng.random(STUDENTS) < 0.6
                    for student in range(STUDENTS):
                        name = f"student {(skill * 7 + student) % 3000}"
                        copy.write_row(
                            (name, f"item {skill} {chosen[student]}", bool(right[student]), moment)
                        )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def measure(url: str) -> None:
    """Read, fit and store all of it, as the asset does; seconds of each, then the peak memory in MB."""
    os.environ["DATABASE_URL"] = url
    io_manager = PostgresUpsertIOManager(database=PlatformDatabase())
    began = time.perf_counter()
    with open_database() as database:
        keys = [
            str(key)
            for key in database.run(lambda c: list(c.exec_driver_sql("SELECT id FROM skills").scalars()))
        ]
        opened = time.perf_counter()
        run_id, fitted, stored = f"run {began}", 0.0, 0.0
        n_items = n_answers = 0
        for some in batches(sorted(keys), READ_AT_ONCE):
            started = time.perf_counter()
            verdicts = list(judge_batch(database, some, AS_OF, 90, ItemRules()))
            fitted += time.perf_counter() - started
            started = time.perf_counter()
            conclude = partial(io_manager.conclude_items, as_of=AS_OF, run_id=run_id, update_platform=False)
            done = [conclude(verdict) for verdict in verdicts]
            done = io_manager.read_items_back(done, run_id, update_platform=False)
            stored += time.perf_counter() - started
            assert all(verdict.outcome == "calibrated" for verdict in done)
            n_items += sum(len(verdict.items) for verdict in done)
            n_answers += sum(verdict.answers for verdict in done)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    total = time.perf_counter() - opened
    print(f"{n_items} {n_answers} {fitted:.3f} {stored:.3f} {total:.3f} {peak:.0f}")


def measure_run(url: str, storage_url: str) -> None:
    """Seconds of the same as a run of the job, with Dagster's events, checks and metadata."""
    os.environ |= {"DATABASE_URL": url, "DAGSTER_POSTGRES_URL": storage_url}
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with open_database() as database, dagster_instance() as instance:
        keys = database.run(lambda c: list(c.exec_driver_sql("SELECT id FROM skills").scalars()))
        instance.add_dynamic_partitions("skill", keys)
        tags = night_tags(AS_OF) | range_tags(keys[0], keys[-1])
        job = build_definitions().resolve_job_def("nightly_irt")
        started = time.perf_counter()
        job.execute_in_process(instance=instance, run_config=quiet, tags=tags)
        print(f"{time.perf_counter() - started:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--skills", type=int, default=500)
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", nargs="+", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        (measure if len(options.measure) == 1 else measure_run)(*options.measure)
        return
    server = embedded.ensure(home())
    names = [NAME, f"{NAME}_dagster"]
    urls = [urlsplit(server)._replace(path=f"/{name}").geturl() for name in names]
    with psycopg.connect(server, autocommit=True) as admin:
        for name in names:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            admin.execute(f"CREATE DATABASE {name}")
        try:
            fill(urls[0], options.skills, options.items, options.answers)
            parts = repeated(options.repeats, urls[0])
            (whole,) = repeated(options.repeats, *urls)
        finally:
            for name in names:
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    items, answers, fitted, stored, total, peak = parts
    print(
        "| skills | items | answers | read and fit, s | store and read back, s | in all, s | in Dagster, s | peak, MB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| {options.skills} | {items:,.0f} | {answers:,.0f} | {fitted:.1f} | {stored:.1f} | {total:.1f} | {whole:.1f} "
        f"| {peak:.0f} |"
    )


def repeated(times: int, *urls: str) -> list[float]:
    """Medians of what a process of its own prints, column by column; the first process is left out."""
    command = [sys.executable, __file__, "--measure", *urls]
    runs = [
        [float(part) for part in subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()]
        for _ in range(times + 1)
    ]
    return [statistics.median(column) for column in zip(*runs[1:], strict=True)]


if __name__ == "__main__":
    main()
