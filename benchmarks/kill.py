"""Kill the night with SIGKILL at random moments, for as long as you like, and compare every row after each kill.

    python benchmarks/kill.py [kills]

The tests do the same some fifty times with one more night after every thirteen kills; here each kill (500
where no number is given) is followed by one more night on its own copy of the platform, whose rows must
be those of a night that nobody disturbed. Prints how the moments of the kills were spread over the night.
"""

import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psycopg

from bkt_pipeline.embedded import server as embedded
from bkt_pipeline_tests.conftest import PROJECT, Databases, Platform, _create_source_tables, database_of
from bkt_pipeline_tests.helpers.nights import Night
from bkt_pipeline_tests.helpers.state import snapshot, torn
from bkt_pipeline_tests.system.test_night import enrol

SIZES = [20] * 11 + [3]


def main(kills: int) -> None:
    home = Path(tempfile.mkdtemp(prefix="bkt-kill-"))
    home.chmod(0o711)
    shutil.copy(PROJECT / "dagster.yaml", home)
    server = embedded.ensure(home, options=("fsync=off", "autovacuum=off"), linger=0.2)
    began = time.monotonic()
    try:
        with psycopg.connect(server, autocommit=True) as connection:
            spread = kill_often(Databases(server, connection), home, kills)
    finally:
        embedded.release(home)
        shutil.rmtree(home)
    print(f"{kills} kills in {time.monotonic() - began:.0f} s, every row as undisturbed after one more night")
    for tenth in range(10):
        print(f"  {tenth * 10:3}% of the night: {spread[tenth]} kills")
    print(f"  after its end:    {spread['late']}")


def kill_often(databases: Databases, home: Path, kills: int) -> Counter[int | str]:
    platform = Platform(databases.create(), "uuid", "timestamptz")
    _create_source_tables(platform.url, "uuid", "timestamptz")
    enrol(platform, SIZES)
    tables = databases.create()
    with Night(platform.url, tables, home).instance():
        pass  # Dagster's tables are made, and each night begins with a copy of them

    def night(number: int) -> Night:
        folder = home / f"dagster-{number}"
        folder.mkdir()
        shutil.copy(PROJECT / "dagster.yaml", folder)
        url, dagster = databases.create(database_of(platform.url)), databases.create(database_of(tables))
        return Night(url, dagster, folder)

    calm = night(0)
    calm.undisturbed()
    expected, seconds = snapshot(calm.url), calm.undisturbed()
    spread: Counter[int | str] = Counter()
    for number in range(1, kills + 1):
        again, moment = night(number), random.uniform(0, seconds)
        spread[int(10 * moment / seconds) if again.killed_after(moment) else "late"] += 1
        if wrong := torn(again.url):
            raise SystemExit(f"kill {number}, {moment:.3f} s into the night: {wrong}")
        again.undisturbed()
        if snapshot(again.url) != expected:
            raise SystemExit(f"kill {number}, {moment:.3f} s into the night: other rows than undisturbed")
        databases.drop(again.url)
        databases.drop(again.environment["DAGSTER_POSTGRES_URL"])
        shutil.rmtree(again.output.parent)
    return spread


if __name__ == "__main__":
    os.environ.pop("DATABASE_URL", None)
    main(int(sys.argv[1]) if sys.argv[1:] else 500)
