"""What a night costs and where, in this checkout or side by side with another one.

    python benchmarks/nights.py --skills 47 1000 5000                                     this checkout
    python benchmarks/nights.py --skills 1000 5000 --items 0 10 --storage ours plain --compare DIR  with the one in DIR
    python benchmarks/nights.py --skills 500 --students 80 --answers 50 --items 20        10,000 items of 200 answers
    python benchmarks/nights.py --skills 1000 100000 --students 10 --answers 5 --one-skill   what other partitions cost
    python benchmarks/nights.py --skills 1000 --older 8 --options "--sequences from_first_answer"   what an option costs

Each school is written once to an embedded Postgres. Each night runs `bkt-pipeline nightly` in a separate process, on a
copy of the school and with Dagster's tables as a first small night left them, which also compiles the kernels. Some
functions of the night are timed: PARTS. `--compare` alternates the nights of both checkouts; DIR needs a virtual
environment in DIR/.venv. `--options` alternates nights without and with these options of the command. The tables go to
standard output: copy what is worth keeping to nights.md, with the date.
"""

import contextlib
import datetime as dt
import functools
import importlib
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import REMAINDER, SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SKILL, ITEM = "skill-{:05}", "item-{:05}-{:03}"
PLAIN_STORAGE = "storage:\n  postgres:\n    postgres_url:\n      env: DAGSTER_POSTGRES_URL\n"
ASSETS, VERDICTS = "bkt_pipeline.defs.assets", "bkt_pipeline.db.verdicts"
MANAGER = "bkt_pipeline.defs.io_manager:PostgresUpsertIOManager"
WRITERS = ("store_event", "store_event_batch", "_write")
# What is timed, and where it is.
PARTS = {
    "Dagster's events": (
        *("dagster_postgres.event_log:PostgresEventLogStorage." + name for name in WRITERS[:2]),
        *("bkt_pipeline.instance.event_log:BatchingEventLogStorage." + name for name in WRITERS),
    ),
    "reading": ("bkt_pipeline.defs.reading:read_windows",),
    "storing the windows": (f"{MANAGER}.handle_output",),
    "loading the windows": (f"{MANAGER}.load_input",),
    "fitting and checking": (f"{ASSETS}.skills:judge",),
    "storing the parameters": (f"{VERDICTS}:SkillVerdicts.store", f"{VERDICTS}:SkillVerdicts.read_back"),
    "drawing the pages": (f"{ASSETS}.skills:skill_page",),
    "reading and fitting the items": (f"{ASSETS}.items:judge_batch",),
    "storing the items": (f"{VERDICTS}:ItemVerdicts.store", f"{VERDICTS}:ItemVerdicts.read_back"),
}
SPENT: Counter[str] = Counter()
ACTIVE: list[str] = []
Numbers = dict[str, float]
Side = tuple[Path, tuple[str, ...]]  # a checkout, and options of its nights


@contextlib.contextmanager
def counted(part: str) -> Iterator[None]:
    """Count the seconds of the block for the part, unless it runs inside another part."""
    ACTIVE.append(part)
    started = time.perf_counter()
    try:
        yield
    finally:
        ACTIVE.pop()
        if not ACTIVE:
            SPENT[part] += time.perf_counter() - started


def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
    """The function with its seconds counted; for a generator, the seconds that its consumer waits."""

    def pieces(found: Iterator[Any]) -> Iterator[Any]:
        while True:
            with counted(part):
                piece = next(found, None)
            if piece is None:
                return
            yield piece

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with counted(part):
            found = function(*args, **kwargs)
        return pieces(found) if isinstance(found, Iterator) else found

    return wrapper


def time_the_parts() -> None:
    """Replace each function of PARTS that this checkout has."""
    for part, places in PARTS.items():
        for place in places:
            module, _, names = place.partition(":")
            *owner, name = names.split(".")
            with contextlib.suppress(ModuleNotFoundError, AttributeError):
                found = functools.reduce(getattr, owner, importlib.import_module(module))
                setattr(found, name, timed(getattr(found, name), part))


def run_command(output: Path, arguments: list[str]) -> None:
    """Run `bkt-pipeline` with the arguments in this process, and write what it cost."""
    started = time.perf_counter()
    with counted("imports"):
        (script,) = entry_points(group="console_scripts", name="bkt-pipeline")
        command = script.load()
        importlib.import_module("bkt_pipeline.definitions")
        time_the_parts()
    if code := command(arguments):
        raise SystemExit(code)
    total = time.perf_counter() - started
    cost = {part: SPENT[part] for part in ("imports", *PARTS) if SPENT[part]}
    cost |= {"everything else": total - sum(SPENT.values()), "total": total}
    cost["CPU of the process"] = time.process_time()
    cost["MiB at most"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    output.write_text(json.dumps(cost))


class Bench:
    """An embedded Postgres with one database for each school, and nights on copies of them."""

    def __init__(self, folder: Path) -> None:
        import psycopg

        from bkt_pipeline.embedded import server

        self.folder = folder
        self.connection = psycopg.connect(server.ensure(folder), autocommit=True)
        parts = self.connection.info.get_parameters()
        self.address = f"{parts['user']}@/{{}}?host={parts['host']}&port={self.connection.info.port}"
        self.numbers = itertools.count()
        self.tables: dict[tuple[Path, str], str] = {}  # Dagster's, by checkout and storage

    def create(self, template: str = "template0") -> str:
        name = f"bench_{next(self.numbers)}"
        self.connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def school(self, skills: int, items: int, students: int, answers: int, older: int) -> str:
        """A database in which each skill has `items` items, and all students answer each skill.

        The last `answers` of each student are of the last hour, the `older` ones before them 60 days old.
        """
        import psycopg

        from bkt_pipeline.db.connection import make_engine, transaction
        from bkt_pipeline.db.source_tables import create_source_tables
        from bkt_pipeline.model import BktParams
        from bkt_pipeline.model.simulate import simulate

        name = self.create()
        url = f"postgresql://{self.address.format(name)}"
        engine = make_engine(url)
        with transaction(engine) as connection:
            create_source_tables(connection)
        engine.dispose()
        now = dt.datetime.now(dt.UTC)
        times = [now - dt.timedelta(days=60) + dt.timedelta(minutes=n) for n in range(older)]
        times += [now - dt.timedelta(hours=1) * (answers - n) / answers for n in range(answers)]
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            numbered = [(SKILL.format(number), str(number), True) for number in range(skills)]
            cursor.executemany("INSERT INTO skills (id, name, active) VALUES (%s, %s, %s)", numbered)
            with cursor.copy("COPY items (id, skill_id) FROM STDIN") as copy:
                for number, item in itertools.product(range(skills), range(items)):
                    copy.write_row((ITEM.format(number, item), SKILL.format(number)))
            columns = "student_id, item_id, is_correct, created_at"
            with cursor.copy(f"COPY attempts ({columns}) FROM STDIN") as copy:
                for number in range(skills):
                    truth = BktParams(0.1 + 0.05 * (number % 13), 0.05 + 0.03 * (number % 9), 0.1, 0.2)
                    made = simulate(truth, n_students=students, seed=number, lengths=older + answers)
                    for at, right in enumerate(made.responses.tolist()):
                        student, turn = divmod(at, older + answers)
                        item = ITEM.format(number, (7 * student + turn) % items)
                        copy.write_row((f"s{student:04}", item, bool(right), times[turn]))
            connection.commit()
            connection.autocommit = True
            cursor.execute("VACUUM ANALYZE")
        return name

    def start(self, checkout: Path, storage: str, platform: str, dagster: str, *arguments: str) -> Numbers:
        """Run this file in a process of the checkout's own on these databases; returns what it measured."""
        home = Path(tempfile.mkdtemp(dir=self.folder))
        output = home / "output.json"
        ours = ("BKT_", "DAGSTER_", "PG")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
            "PYTHONPATH": str(checkout),
            "BKT_PIPELINE_HOME": str(home),
            "DATABASE_URL": f"postgresql://{self.address.format(platform)}",
            "DAGSTER_POSTGRES_URL": f"postgresql+psycopg2://{self.address.format(dagster)}",
        }
        if storage == "plain":
            (home / "dagster.yaml").write_text(PLAIN_STORAGE)
            environment["DAGSTER_HOME"] = str(home)
        python = sys.executable if checkout == ROOT else checkout / ".venv" / "bin" / "python"
        self.connection.execute("CHECKPOINT")
        command = [python, __file__, "--child", output, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{checkout}: {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
        cost: Numbers = json.loads(output.read_text())
        return cost

    def night(self, side: Side, storage: str, school: str, items: int, one_skill: bool) -> Numbers:
        """A night on copies of the databases, after a first command that creates what a platform would already have."""
        checkout, options = side
        tables = self.tables.get((checkout, storage))
        if tables is None:
            tables = self.tables[checkout, storage] = self.create()
            self.start(checkout, storage, self.school(3, 1, 125, 8, 0), tables, "nightly")
        night = ["nightly", *options, *([] if items else ["--skip-irt"])]
        night += ["--skill", SKILL.format(0)] * one_skill
        databases = self.create(school), self.create(tables)
        self.start(checkout, storage, *databases, *(night if one_skill else ["migrate"]))
        cost = self.start(checkout, storage, *databases, *night)
        for name in databases:
            self.connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        return cost


def report(bench: Bench, chosen: Namespace) -> Iterator[str]:
    """A table for each school and storage: the medians of the nights, and the ratio if there are two sides."""
    sides: dict[str, Side] = {"here": (ROOT, ())}
    if chosen.compare:
        sides = {"before": (chosen.compare.resolve(), ()), "after": (ROOT, ())}
    if chosen.options:
        sides[chosen.options] = (ROOT, tuple(chosen.options.split()))
    yield f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {dt.date.today()}"
    for skills, items in itertools.product(chosen.skills, chosen.items):
        school = bench.school(skills, max(items, 1), chosen.students, chosen.answers, chosen.older)
        for storage in chosen.storage:
            nights: dict[str, list[Numbers]] = {name: [] for name in sides}
            for _ in range(chosen.repeats):
                for name, side in sides.items():
                    nights[name].append(bench.night(side, storage, school, items, chosen.one_skill))
            yield f"\n### {skills:,} skills, {items or 'no'} items a skill, {storage} storage\n"
            heads = [*sides, *["ratio"] * (len(sides) > 1)]
            yield f"| seconds | {' | '.join(heads)} |"
            yield "|---|" + "---:|" * len(heads)
            for part in dict.fromkeys(part for found in nights.values() for night in found for part in night):
                row = [
                    statistics.median(night.get(part, 0.0) for night in found) for found in nights.values()
                ]
                cells = [f"{value:,.2f}" for value in row]
                if len(sides) > 1:
                    cells.append(f"{row[-1] / row[0]:.2f}" if row[0] else "–")
                yield f"| {part} | {' | '.join(cells)} |"


def main() -> None:
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("--skills", type=int, nargs="+", default=[47, 1000, 5000])
    options.add_argument("--students", type=int, default=125, help="students of each skill (125)")
    options.add_argument("--answers", type=int, default=8, help="answers of each student to a skill (8)")
    options.add_argument("--older", type=int, default=0, help="earlier answers, before the window (0)")
    options.add_argument("--items", type=int, nargs="+", default=[0], help="items a skill; 0: --skip-irt (0)")
    options.add_argument("--one-skill", action="store_true", help="time a second night, of one skill only")
    options.add_argument("--storage", choices=["ours", "plain"], nargs="+", default=["ours"])
    options.add_argument("--compare", type=Path, metavar="DIR", help="another checkout, with its .venv")
    options.add_argument("--options", metavar="TEXT", help="also nights with these options of nightly")
    options.add_argument("--repeats", type=int, default=3, help="nights of each kind; medians are shown (3)")
    options.add_argument("--child", nargs=REMAINDER, help=SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        run_command(Path(chosen.child[0]), chosen.child[1:])
        return
    from bkt_pipeline.embedded import server

    with tempfile.TemporaryDirectory(prefix="bkt-nights-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # the embedded server of root runs as another account
        bench = Bench(folder)
        try:
            for line in report(bench, chosen):
                print(line, flush=True)
        finally:
            bench.connection.close()
            server.release(folder)


if __name__ == "__main__":
    main()
