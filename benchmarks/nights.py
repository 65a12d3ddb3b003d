"""What a night costs, and where: reading, fitting, storing, Dagster's events, memory.

python benchmarks/nights.py [--skills 47 1000 5000] [--write]

Each size runs in a process of its own on a fresh embedded Postgres: a school of that many skills, 1,000
attempts each (125 students of 8), and one night over all of it, as `bkt-pipeline nightly --skip-irt` runs it. What the
items cost is measured by items.py; what a daemon adds, by shards.py.
"""

import argparse
import datetime as dt
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STUDENTS, ATTEMPTS = 125, 8
SPENT: Counter[str] = Counter()
ACTIVE: list[str] = []


def enrol(skills: int, students: int = STUDENTS, until: dt.datetime | None = None) -> str:
    """Fill the embedded database: every skill has one item and answers within the hour before `until`, or now.

    Returns the database's URL.
    """
    import psycopg

    from bkt_pipeline.db.connection import make_engine, transaction
    from bkt_pipeline.db.source_tables import create_source_tables
    from bkt_pipeline.embedded import server as embedded
    from bkt_pipeline.embedded.home import home
    from bkt_pipeline.model.params import BktParams
    from bkt_pipeline.model.simulate import simulate

    url = embedded.ensure(home(), database="bkt")
    engine = make_engine(url)
    with transaction(engine) as connection:
        create_source_tables(connection)
    engine.dispose()
    last = until or dt.datetime.now(dt.UTC)
    times = [last - dt.timedelta(seconds=60 * (ATTEMPTS - n)) for n in range(ATTEMPTS)]
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for table, row in (
            ("skills (id, name, active)", ("{}", "{}", "t")),
            ("items (id, skill_id)", ("{}", "{}")),
        ):
            with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                for number in range(skills):
                    copy.write_row([part.format(f"skill-{number:05}") for part in row])
        with cursor.copy("COPY attempts (student_id, item_id, is_correct, created_at) FROM STDIN") as copy:
            for number in range(skills):
                truth = BktParams(0.1 + 0.05 * (number % 13), 0.05 + 0.03 * (number % 9), 0.1, 0.2)
                window = simulate(truth, n_students=students, seed=number, lengths=ATTEMPTS)
                answers = window.responses.tolist()
                for at in range(len(answers)):
                    student, turn = divmod(at, ATTEMPTS)
                    copy.write_row((f"s{student:04}", f"skill-{number:05}", bool(answers[at]), times[turn]))
        connection.commit()
        connection.autocommit = True
        cursor.execute("VACUUM ANALYZE attempts")
    return url


@contextmanager
def counted(what: str) -> Iterator[None]:
    """Count the seconds of the block under `what`, unless something that is counted is around it."""
    ACTIVE.append(what)
    started = time.perf_counter()
    try:
        yield
    finally:
        ACTIVE.pop()
        if not ACTIVE:
            SPENT[what] += time.perf_counter() - started


def timed(owner: Any, name: str, what: str) -> None:
    """Count the seconds spent in a function under `what`."""
    function: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with counted(what):
            return function(*args, **kwargs)

    setattr(owner, name, wrapper)


def timed_iteration(owner: Any, name: str, what: str) -> None:
    """The same for a generator: the seconds that its consumer waits for it."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        pieces = iter(function(*args, **kwargs))
        while True:
            with counted(what):
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    setattr(owner, name, wrapper)


def one_night() -> dict[str, float]:
    """A night in this process; seconds by what they were spent on."""
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.definitions import build_definitions
    from bkt_pipeline.defs.assets import skills as assets
    from bkt_pipeline.defs.io_manager import PostgresUpsertIOManager
    from bkt_pipeline.defs.night import run_night
    from bkt_pipeline.defs.resources import shared
    from bkt_pipeline.instance.storage import dagster_instance
    from bkt_pipeline.model import warm_up

    warm_up()
    timed(assets, "read_windows", "reading")
    timed(PostgresUpsertIOManager, "handle_output", "storing the windows")
    timed(PostgresUpsertIOManager, "load_input", "loading the windows")
    timed_iteration(assets, "judge", "fitting and checking")
    timed(PostgresUpsertIOManager, "conclude", "storing the parameters")
    with open_database() as database, dagster_instance() as instance:
        storage = type(instance.event_log_storage)
        timed(storage, "store_event", "Dagster's events")
        timed(storage, "store_event_batch", "Dagster's events")
        started = time.perf_counter()
        definitions = build_definitions(database=shared(database))
        night = run_night(database, definitions, instance, dt.datetime.now(dt.UTC), with_items=False)
        total = time.perf_counter() - started
    assert {outcome.outcome for outcome in night.outcomes} == {"calibrated"}
    fits = sum(outcome.seconds or 0.0 for outcome in night.outcomes)
    return {
        **SPENT,
        "everything else": total - sum(SPENT.values()),
        "total": total,
        "fits alone, summed over threads": fits,
        "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure(skills: int) -> dict[str, float]:
    """Both steps, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="bkt-nights-") as home:
        Path(home).chmod(0o755)
        environment = {**os.environ, "BKT_PIPELINE_HOME": home}
        environment.pop("DATABASE_URL", None)
        for step in ("--enrol", "--night"):
            ran = subprocess.run(
                [sys.executable, __file__, step, str(skills)],
                env=environment,
                check=True,
                stdout=subprocess.PIPE,
            )
        from bkt_pipeline.embedded import server as embedded

        embedded.release(Path(home))
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def table(found: dict[int, dict[str, float]]) -> str:
    names = list(next(iter(found.values())))
    head = "| seconds of a night of | " + " | ".join(f"{skills:,} skills" for skills in found) + " |"
    rows = [
        f"| {name} | " + " | ".join(f"{of_size.get(name, 0.0):,.1f}" for of_size in found.values()) + " |"
        for name in names
    ]
    return "\n".join([head, "|---|" + "---:|" * len(found), *rows])


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--skills", type=int, nargs="+", default=[47, 1000, 5000])
    options.add_argument("--write", action="store_true", help="write benchmarks/nights.md")
    options.add_argument("--enrol", type=int, help=argparse.SUPPRESS)
    options.add_argument("--night", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.enrol:
        enrol(chosen.enrol)
    elif chosen.night:
        print(json.dumps(one_night()))
    else:
        text = table({skills: measure(skills) for skills in chosen.skills})
        print(text)
        if chosen.write:
            (HERE / "nights.md").write_text(
                "# What a night costs\n\n"
                f"Skills of {STUDENTS * ATTEMPTS:,} attempts each, on an embedded Postgres on the same machine of "
                f"{os.cpu_count()} cores, as `bkt-pipeline nightly --skip-irt` runs it; MiB is the process's peak.\n\n"
                f"Made by `python benchmarks/nights.py --skills {' '.join(map(str, chosen.skills))} --write`.\n\n{text}\n"
            )


if __name__ == "__main__":
    main()
