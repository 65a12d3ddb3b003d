"""A platform's source tables in any shape: two skills, known answers, whatever the types are."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import Connection

from bkt_pipeline.db.connection import make_engine, transaction

AS_OF = dt.datetime(2026, 1, 1, 7, tzinfo=dt.UTC)
STUDENTS, ANSWERS = 6, 5
# Grades of student s at answer j, the same in every shape.
GRADE = "(s * 7 + j * j * 3 + s * j) % 10 < 3 + j"


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = make_engine(url)
    try:
        with transaction(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def create(
    url: str,
    *,
    skill: str = "text",
    item_skill: str | None = None,
    item: str = "text",
    student: str = "text",
    answer: str = "boolean",
    time: str = "timestamptz",
    key: str = "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    before: str = "",
    after: str = "",
    skills: tuple[str, ...] = ("1", "2"),
) -> None:
    """Create the tables with columns of these types, and fill them; ids are the texts of whole numbers."""
    grade = f"({GRADE})" if answer in ("boolean", "graded") else f"({GRADE})::int"
    with psycopg.connect(url, client_encoding="utf8") as connection:
        connection.execute(before.encode())
        connection.execute(
            f"""
            CREATE TABLE skills (id {skill} PRIMARY KEY, active boolean NOT NULL);
            CREATE TABLE items (id {item} PRIMARY KEY, skill_id {item_skill or skill});
            CREATE TABLE attempts (id {key}, student_id {student}, item_id {item}, is_correct {answer},
                created_at {time});
            CREATE INDEX ON items (skill_id);
            CREATE INDEX ON attempts (item_id, created_at);
            """.encode()
        )
        for number, name in enumerate(skills):
            first = number * 4
            for statement in (
                f"INSERT INTO skills VALUES ('{name}', true)",  # noqa: S608
                f"INSERT INTO items SELECT k::text::{item}, '{name}' FROM generate_series({first}, {first + 3}) k",  # noqa: S608
                "INSERT INTO attempts (student_id, item_id, is_correct, created_at)"  # noqa: S608
                f" SELECT s::text::{student}, ({first} + j % 4)::text::{item}, {grade}::{answer},"
                " timestamptz '2025-12-20 07:00Z' + make_interval(mins => s * 60 + j)"
                f" FROM generate_series(1, {STUDENTS}) s, generate_series(0, {ANSWERS - 1}) j",
            ):
                connection.execute(statement.encode())
        connection.execute(after.encode())


def expected_responses() -> list[int]:
    """The responses of either skill, student by student."""
    return [
        int((s * 7 + j * j * 3 + s * j) % 10 < 3 + j) for s in range(1, STUDENTS + 1) for j in range(ANSWERS)
    ]
