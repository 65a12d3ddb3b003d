"""Files of answers to load, and what comes of them."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, NullPool, create_engine, func, select
from sqlalchemy import table as sql_table
from sqlalchemy.engine import make_url

from bkt_pipeline.db.attempts_file import Attempts

AS_OF = datetime(2026, 3, 1, 7, tzinfo=UTC)
HEADER = "skill_id,student_id,item_id,is_correct,created_at\n"
GOOD_ROW = "fractions,maria,item-1,1,2026-02-20T10:00:00Z\n"


def rows_in_order(*orders: object) -> str:
    """A file of one student's answers that have an order but no dates."""
    return "skill_id,student_id,item_id,is_correct,order\n" + "".join(f"s,maria,i,1,{o}\n" for o in orders)


def times(attempts: Attempts) -> list[datetime]:
    start = datetime(1970, 1, 1, tzinfo=UTC)
    return [start + timedelta(microseconds=int(us)) for us in attempts.created_us]


@contextmanager
def transaction(url: str) -> Iterator[Connection]:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.begin() as connection:
        yield connection


def count(connection: Connection, table: str) -> object:
    return connection.execute(select(func.count()).select_from(sql_table(table))).scalar()


def write_answers(path: Path, answers: int = 80) -> Path:
    """A file of 16 students' answers at one skill, in the form that `load` takes without options."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["skill_id", "student_id", "item_id", "is_correct", "order"])
        for number in range(answers):
            writer.writerow(["sums", f"pupil-{number % 16}", number % 5, int(number % 7 < 4), number])
    return path
