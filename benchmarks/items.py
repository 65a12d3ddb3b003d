"""A night's item calibration from rows in Postgres to rows in Postgres: 10,000 items x 200 answers.

    python benchmarks/items.py [--skills 500] [--items 20] [--answers 200] [--repeats 3]

On the embedded server, in a database of its own that is dropped afterwards: 500 skills of 20 items, 80 students a skill
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

from bkt_pipeline.db import embedded
from bkt_pipeline.db.connection import make_engine, transaction
from bkt_pipeline.db.database import open_database
from bkt_pipeline.db.loading import create_source_tables
from bkt_pipeline.io_managers import PostgresUpsertIOManager
from bkt_pipeline.item_assets import READ_AT_ONCE, judge_batch
from bkt_pipeline.item_calibration import ItemRules
from bkt_pipeline.progress import batches
from bkt_pipeline.resources import PlatformDatabase

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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--skills", type=int, default=500)
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    server = embedded.ensure()
    url = urlsplit(server)._replace(path=f"/{NAME}").geturl()
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {NAME}")
        try:
            fill(url, options.skills, options.items, options.answers)
            command = [sys.executable, __file__, "--measure", url]
            runs = [
                [
                    float(part)
                    for part in subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()
                ]
                for _ in range(options.repeats + 1)
            ][1:]
        finally:
            admin.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
    items, answers, *_ = runs[0]
    fitted, stored, total, peak = (statistics.median(column) for column in list(zip(*runs, strict=True))[2:])
    print(
        "| skills | items | answers | read and fit, s | store and read back, s | in all, s | peak memory, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {options.skills} | {items:,.0f} | {answers:,.0f} | {fitted:.1f} | {stored:.1f} | {total:.1f} | {peak:.0f} |"
    )


if __name__ == "__main__":
    main()
