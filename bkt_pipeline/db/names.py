"""The names of skills, where the platform has them. They are only shown; the partition keys are ids."""

import logging

from sqlalchemy import Column, Connection, Text, cast, func, select
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.permissions import NOT_ALLOWED, require_readable
from bkt_pipeline.db.platform import Source
from bkt_pipeline.db.relations import is_text
from bkt_pipeline.db.retry import is_transient, reason, sqlstate
from bkt_pipeline.errors import SourceSchemaError
from bkt_pipeline.settings import settings

COLUMNS = ("name", "title", "slug")
LONGEST_NAME = 200  # characters that are read

log = logging.getLogger("bkt_pipeline")


def check_names(connection: Connection, source: Source) -> None:
    """Check that the column in BKT_SKILL_NAME, if it is set, can be read.

    Raises
    ------
    SourceSchemaError
        There is no such column.
    PermissionMissing
        The role may not read it.
    """
    if settings().skill_name:
        require_readable(connection, source.skills, [column.name for column in name_columns(source)])


def name_columns(source: Source) -> "list[Column[str]]":
    """The columns of `skills` to take a name from, the best first: that of BKT_SKILL_NAME, or the usual ones.

    Raises
    ------
    SourceSchemaError
        BKT_SKILL_NAME names no column of the table.
    """
    columns, chosen = source.skills.c, settings().skill_name
    if chosen is None:
        return [columns[name] for name in COLUMNS if name in columns and is_text(columns[name])]
    if chosen not in columns:
        raise SourceSchemaError(
            f"BKT_SKILL_NAME is {chosen!r}, and {source.skills.name} has no such column; "
            f"it has {', '.join(columns.keys())}"
        )
    return [columns[chosen]]


def read_names(connection: Connection, source: Source) -> dict[str, str]:
    """The name of each active skill that has one and is not called by its id."""
    columns = name_columns(source)
    if not columns:
        return {}
    skills = source.skills.c
    name = func.coalesce(*(func.nullif(func.btrim(cast(column, Text)), "") for column in columns))
    statement = select(cast(skills.id, Text).label("key"), func.left(name, LONGEST_NAME).label("name")).where(
        skills.active
    )
    try:
        with connection.begin_nested():
            rows = connection.execute(statement).all()
    except (DBAPIError, UnicodeError) as error:
        if isinstance(error, DBAPIError) and is_transient(error):
            raise
        if sqlstate(error) == NOT_ALLOWED:
            # A role that may read only the columns that a night needs; BKT_SKILL_NAME would have been refused.
            return {}
        # Names that cannot be read do not cost the night its results.
        log.warning("the names of the skills cannot be read, so their ids are shown: %s", reason(error))
        return {}
    return {row.key: row.name for row in rows if row.name and row.name != row.key}
