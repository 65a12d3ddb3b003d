"""Reads the answers that items are calibrated on, and the platform's table of mastery.

Each function takes an open Connection and leaves the commit to its caller.
"""

import datetime as dt
from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np
from sqlalchemy import (
    CTE,
    BigInteger,
    Connection,
    Double,
    Integer,
    LargeBinary,
    Row,
    Select,
    Subquery,
    Table,
    Text,
    case,
    cast,
    func,
    literal,
    null,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from bkt_pipeline.db.attempts import in_window, student_text
from bkt_pipeline.db.isolation import read_isolated
from bkt_pipeline.db.permissions import require_readable
from bkt_pipeline.db.platform import Source, requested_keys
from bkt_pipeline.db.relations import find_relations
from bkt_pipeline.errors import SourceSchemaError, WindowUnusable
from bkt_pipeline.model.bkt.prediction import are_held_out
from bkt_pipeline.model.irt.answers import SkillAnswers

MASTERY = "student_skill_mastery"
MASTERY_COLUMNS = ("student_id", "skill_id", "p_known")

_ANSWER = np.dtype(">i4")


def reflect_mastery(connection: Connection, schema: str | None = None) -> Table:
    """The platform's table of each student's P(known).

    Raises
    ------
    SourceSchemaError
        The table or one of its columns is missing.
    PermissionMissing
        This role may not read all of the table.
    """
    found = find_relations(connection, [MASTERY], schema)
    if MASTERY not in found:
        raise SourceSchemaError(
            f"theta_from is mastery, but the database has no table {MASTERY}"
            f"({', '.join(MASTERY_COLUMNS)}) in its {f'schema {schema}' if schema else 'search path'}; set "
            "theta_from to replay"
        )
    table = found[MASTERY]
    if lacks := [name for name in MASTERY_COLUMNS if name not in table.c]:
        raise SourceSchemaError(
            f"table {MASTERY} has no column {', '.join(lacks)}; it has {', '.join(table.c.keys())}"
        )
    require_readable(connection, table, MASTERY_COLUMNS)
    return table


def read_answers(
    connection: Connection,
    source: Source,
    keys: Sequence[str],
    as_of: dt.datetime,
    window_days: int,
    mastery: Table | None = None,
) -> dict[str, SkillAnswers | WindowUnusable]:
    """Each skill's graded answers with ``as_of - window_days < created_at <= as_of``, and the item of each answer.

    Every key is in the result, with its answers or with the reason why they cannot be read. A single statement reads
    items and answers, so both are from the same moment. It numbers the skill's items and sends one row for each skill,
    with four bytes for each answer (the item's number and the grade), so no Python object is made per answer. With
    `mastery`, each student's P(known) from that table is read too, and students without one are left out. Student ids
    are used only to decide who is held out.
    """

    def read(some: Sequence[str]) -> dict[str, SkillAnswers]:
        statement = _statement(source, as_of, window_days, mastery)
        by_skill = {row.skill: row for row in connection.execute(statement, {"keys": list(some)})}
        return {
            key: _answers(key, by_skill.get(number), with_mastery=mastery is not None)
            for number, key in enumerate(some, 1)
        }

    return read_isolated(connection, source, keys, read)


def _statement(source: Source, as_of: dt.datetime, window_days: int, mastery: Table | None) -> Select[Any]:
    """One row for each skill with items: its number in the parameter `keys`, from 1, its items and their answers."""
    items, given = source.items, requested_keys()
    numbered = (
        select(
            items.c.id,
            given.c.number.label("skill"),
            (func.row_number().over(partition_by=given.c.number, order_by=items.c.id) - 1).label("number"),
        )
        .select_from(given)
        .join(items, source.is_skill(items.c.skill_id, given.c.key))
        .cte("numbered")
    )
    names = (
        select(
            numbered.c.skill,
            func.array_agg(aggregate_order_by(cast(numbered.c.id, Text), numbered.c.number)).label(
                "item_ids"
            ),
        )
        .group_by(numbered.c.skill)
        .subquery("names")
    )
    by_student = _sequences(source, numbered, as_of, window_days, mastery).subquery("sequences").c
    # The order of the students decides the order of summation, so it must be the same each time.
    order = by_student.student_id
    lengths = func.octet_length(by_student.answers) // _ANSWER.itemsize
    by_skill = (
        select(
            by_student.skill,
            func.array_agg(aggregate_order_by(by_student.student, order)).label("students"),
            func.array_agg(aggregate_order_by(lengths, order)).label("lengths"),
            func.array_agg(aggregate_order_by(by_student.p_known, order)).label("mastery"),
            func.string_agg(
                by_student.answers, aggregate_order_by(literal(b""), order), type_=LargeBinary
            ).label("answers"),
            cast(func.sum(by_student.odd), BigInteger).label("odd"),
        )
        .group_by(by_student.skill)
        .subquery("by_skill")
    )
    columns = [column for column in by_skill.c if column.name != "skill"]
    return select(names, *columns).select_from(names.outerjoin(by_skill, names.c.skill == by_skill.c.skill))


def _sequences(
    source: Source, numbered: CTE, as_of: dt.datetime, window_days: int, mastery: Table | None
) -> Select[Any]:
    """One row for each student and skill."""
    attempts = source.attempts
    known = None if mastery is None else _known(source, mastery)
    answer = func.int4send(
        cast(numbered.c.number * 2, Integer) + cast(source.is_right, Integer), type_=LargeBinary
    )
    odd = literal(0) if source.odd_grade is None else func.count().filter(source.odd_grade)
    sequences = (
        select(
            numbered.c.skill,
            attempts.c.student_id,
            student_text(attempts.c.student_id).label("student"),
            func.string_agg(
                answer, aggregate_order_by(literal(b""), *source.attempt_order), type_=LargeBinary
            ).label("answers"),
            cast(null() if known is None else func.min(known.c.p_known), Double).label("p_known"),
            odd.label("odd"),
        )
        .select_from(attempts.join(numbered, numbered.c.id == attempts.c.item_id))
        .where(
            in_window(source, as_of, window_days),
            attempts.c.is_correct.is_not(None),
            attempts.c.student_id.is_not(None),
        )
        .group_by(numbered.c.skill, attempts.c.student_id)
    )
    if known is None:
        return sequences
    return sequences.join(
        known, (known.c.student_id == attempts.c.student_id) & (known.c.skill == numbered.c.skill)
    )


def _known(source: Source, mastery: Table) -> Subquery:
    """One P(known) for each student and skill; NaN if several rows disagree."""
    rows, given = mastery.c, requested_keys()
    once = func.min(rows.p_known) == func.max(rows.p_known)
    return (
        select(
            rows.student_id,
            given.c.number.label("skill"),
            case((once, cast(func.min(rows.p_known), Double)), else_=cast(literal("NaN"), Double)).label(
                "p_known"
            ),
        )
        .select_from(given)
        .join(mastery, source.is_skill(rows.skill_id, given.c.key))
        .where(rows.p_known.is_not(None))
        .group_by(rows.student_id, given.c.number)
        .subquery("known")
    )


def _answers(key: str, row: Row[Any] | None, *, with_mastery: bool) -> SkillAnswers:
    """The answers in the skill's row; a skill without items has none."""
    all_items, students, lengths, mastery, answers = (
        ([], (), (), (), b"")
        if row is None
        else (row.item_ids, row.students or (), row.lengths or (), row.mastery or (), row.answers or b"")
    )
    if row is not None and row.odd:
        raise WindowUnusable(
            f"{row.odd:,} of its attempts have an is_correct other than 0 and 1; a grade is 0, 1 or NULL"
        )
    packed = np.frombuffer(answers, _ANSWER).astype(np.int64)
    numbers = packed >> 1
    answered = np.bincount(numbers, minlength=len(all_items)) > 0
    return SkillAnswers(
        skill_id=key,
        item_ids=tuple(compress(all_items, answered)),
        items=(np.cumsum(answered) - 1)[numbers],
        responses=(packed & 1).astype(np.uint8),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        mastery=np.array(mastery, np.float64) if with_mastery else None,
        held_out=are_held_out(students),
    )
