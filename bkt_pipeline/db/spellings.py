"""All ways in which one student's id is written, where the platform's database takes different texts for equal."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, cast, literal, literal_column, select, union
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.platform import Source
from bkt_pipeline.db.relations import equal_values_may_differ
from bkt_pipeline.db.retry import is_transient
from bkt_pipeline.db.schema import attempt_window


def spellings(connection: Connection, source: Source, student_id: str) -> set[str]:
    """The id as given, and every id among the attempts and the stored windows that the platform takes for the same.

    Two windows may hold different spellings of a student, if the column is citext or has a collation that ignores case.
    """
    ids = source.attempts.c.student_id
    if not equal_values_may_differ(ids):
        return {student_id}
    given = cast(literal(student_id), ids.type)
    stored: ColumnElement[Any] = cast(attempt_window.c.student_id, ids.type)
    if collation := ids.info["collation"]:
        stored = stored.op("COLLATE")(literal_column(collation))
    same = union(
        select(cast(ids, Text)).where(ids == given),
        select(attempt_window.c.student_id).where(stored == given),
    )
    try:
        with connection.begin_nested():
            return {student_id, *connection.execute(same).scalars()}
    except DBAPIError as error:
        if is_transient(error):
            raise
        # It is not a value of the column's type, so no student has it.
        return {student_id}
