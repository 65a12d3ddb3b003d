"""The answers that items are calibrated on: the statement that reads them, and the parameters to replay them with.

Each function takes an open Connection and leaves the commit to its caller.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Subquery,
    Table,
    Text,
    bindparam,
    case,
    cast,
    func,
    inspect,
    literal,
    null,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from bkt_pipeline.db.platform import Source
from bkt_pipeline.errors import SourceSchemaError
from bkt_pipeline.model.irt.items import SkillAnswers

MASTERY = "student_skill_mastery"


MASTERY_COLUMNS = ("student_id", "skill_id", "p_known")


def reflect_mastery(connection: Connection) -> Table:
    """The platform's table of each student's P(known).

    Raises
    ------
    SourceSchemaError
        There is none, or a column is missing.
    """
    look = inspect(connection)
    if MASTERY not in {*look.get_table_names(), *look.get_view_names()}:
        raise SourceSchemaError(
            f"theta is to come from the platform's mastery, but the database has no table {MASTERY}"
            f"({', '.join(MASTERY_COLUMNS)}) in its search path; set theta_from to replay"
        )
    table = Table(MASTERY, MetaData(), autoload_with=connection, resolve_fks=False)
    if lacks := [name for name in MASTERY_COLUMNS if name not in table.c]:
        raise SourceSchemaError(
            f"table {MASTERY} has no column {', '.join(lacks)}; it has {', '.join(table.c.keys())}"
        )
    return table


def read_answers(
    connection: Connection,
    source: Source,
    keys: Sequence[str],
    as_of: dt.datetime,
    window_days: int,
    mastery: Table | None = None,
) -> dict[str, SkillAnswers]:
    """The graded answers with ``as_of - window_days < created_at <= as_of`` of each skill, with the item of each.

    Every key is in the result. One statement, so that items and answers are of one moment: it numbers the skill's
    items and brings four bytes an answer (that number and the grade), grouped by student in Postgres. With
    `mastery`, the P(known) of that table comes along, and students without one are left out. The ids of
    students stay in the database.
    """
    items, attempts = source.items, source.attempts
    bound = as_of.astimezone(dt.UTC)
    if not source.zoned:
        bound = bound.replace(tzinfo=None)
    skills = func.any(bindparam("skills", type_=ARRAY(source.skills.c.id.type)))
    numbered = (
        select(
            items.c.id,
            items.c.skill_id,
            (func.row_number().over(partition_by=items.c.skill_id, order_by=items.c.id) - 1).label("number"),
        )
        .where(items.c.skill_id == skills)
        .cte("numbered")
    )
    known = None if mastery is None else _known(mastery, skills)
    answer = func.int4send(
        cast(numbered.c.number * 2, Integer) + cast(attempts.c.is_correct, Integer), type_=LargeBinary
    )
    sequences = (
        select(
            cast(numbered.c.skill_id, Text).label("skill_id"),
            func.string_agg(
                answer, aggregate_order_by(literal(b""), *source.attempt_order), type_=LargeBinary
            ).label("answers"),
            cast(null() if known is None else func.min(known.c.p_known), Double).label("p_known"),
            cast(null(), ARRAY(Text)).label("item_ids"),
            # The order of the students decides the order of summation, so it must be the same each time.
            func.row_number().over(order_by=attempts.c.student_id).label("place"),
        )
        .select_from(attempts.join(numbered, numbered.c.id == attempts.c.item_id))
        .where(
            attempts.c.created_at > bound - dt.timedelta(days=window_days),
            attempts.c.created_at <= bound,
            attempts.c.is_correct.is_not(None),
            attempts.c.student_id.is_not(None),
        )
        .group_by(numbered.c.skill_id, attempts.c.student_id)
    )
    if known is not None:
        sequences = sequences.join(
            known,
            (known.c.student_id == attempts.c.student_id) & (known.c.skill_id == numbered.c.skill_id),
        )
    names = select(
        cast(numbered.c.skill_id, Text),
        cast(null(), LargeBinary),
        cast(null(), Double),
        func.array_agg(aggregate_order_by(cast(numbered.c.id, Text), numbered.c.number)),
        cast(0, BigInteger),
    ).group_by(numbered.c.skill_id)
    rows = connection.execute(union_all(sequences, names), {"skills": source.skill_ids(keys)}).all()
    by_skill: dict[str, list[Row[Any]]] = {key: [] for key in keys}
    for row in rows:
        by_skill[row.skill_id].append(row)
    return {
        key: _answers(key, sorted(of_skill, key=lambda row: row.place), with_mastery=mastery is not None)
        for key, of_skill in by_skill.items()
    }


def _known(mastery: Table, skills: ColumnElement[Any]) -> Subquery:
    """One P(known) a student and skill; not a number where several rows say different things."""
    rows = mastery.c
    once = func.min(rows.p_known) == func.max(rows.p_known)
    return (
        select(
            rows.student_id,
            rows.skill_id,
            case((once, cast(func.min(rows.p_known), Double)), else_=cast(literal("NaN"), Double)).label(
                "p_known"
            ),
        )
        .where(rows.skill_id == skills, rows.p_known.is_not(None))
        .group_by(rows.student_id, rows.skill_id)
        .subquery()
    )


def _answers(key: str, rows: Sequence["Row[Any]"], *, with_mastery: bool) -> SkillAnswers:
    """One skill's rows: its items first, then its students."""
    all_items = rows[0].item_ids if rows else []
    students = rows[1:]
    packed = np.frombuffer(b"".join(row.answers for row in students), ">i4").astype(np.int64)
    lengths = [len(row.answers) // 4 for row in students]
    answered, items = np.unique(packed >> 1, return_inverse=True)
    return SkillAnswers(
        skill_id=key,
        item_ids=tuple(all_items[place] for place in answered),
        items=items.astype(np.int64),
        responses=(packed & 1).astype(np.uint8),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        mastery=np.array([row.p_known for row in students], np.float64) if with_mastery else None,
    )
