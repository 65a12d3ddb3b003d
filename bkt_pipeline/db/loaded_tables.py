"""Source tables that this package filled itself: how they are marked, and when a load may replace them.

The marks are comments on the tables. Tables without a mark belong to the platform and are never replaced.
"""

from __future__ import annotations

import re

from sqlalchemy import Connection, func, select, text
from sqlalchemy import table as sql_table

from bkt_pipeline.db.attempts_file import Attempts
from bkt_pipeline.db.source_tables import create_source_tables, wait_for_other_loads, write_attempts
from bkt_pipeline.errors import DatabaseError

SCHOOL = "The synthetic school of bkt-pipeline"


_LOADED = "Loaded from a file by bkt-pipeline: {rows} rows"


_LOADED_ROWS = re.compile(_LOADED.replace("{rows}", r"(\d+)"))


_TABLES = ("skills", "items", "attempts")


def mark_school(connection: Connection) -> None:
    """Mark the tables as the synthetic school, which a load replaces."""
    connection.execute(text(f"COMMENT ON TABLE skills IS '{SCHOOL}'"))


def load_attempts(connection: Connection, attempts: Attempts, *, embedded: bool, replace: bool) -> None:
    """Store a file of answers, as part of the caller's transaction.

    The file replaces the synthetic school and, with `replace`, an earlier file. Results that were calibrated from the
    replaced answers are deleted too, so that they are not mistaken for results of the new ones.

    Parameters
    ----------
    embedded : bool
        Whether this is the embedded database. Only that one can hold the synthetic school.
    replace : bool
        Whether the answers of an earlier load may be replaced. Rows that a load did not write are never replaced.

    Raises
    ------
    DatabaseError
        The tables hold rows that must not be replaced.
    SourceSchemaError
        The platform's own tables do not accept the rows.
    """
    wait_for_other_loads(connection)
    if embedded and _comment(connection, "skills") == SCHOOL:
        _drop(connection)
    elif _is_loaded(connection):
        if not replace:
            raise DatabaseError(
                "The database holds rows already, from an earlier file. To replace them, and what was calibrated "
                "from them, add --replace."
            )
        _require_untouched(connection)
        _drop(connection)
    elif replace and any(_count(connection, table) for table in _TABLES):
        raise DatabaseError(
            "The tables skills, items and attempts hold rows that bkt-pipeline load did not write, and --replace "
            "never deletes such rows. Load into an empty database instead: set DATABASE_URL to one, or "
            "BKT_PIPELINE_HOME to a new folder."
        )
    ours = not any(_exists(connection, table) for table in _TABLES) or embedded
    create_source_tables(connection)
    write_attempts(connection, attempts)
    if ours:
        for table in _TABLES:
            mark = _LOADED.format(rows=_count(connection, table))
            connection.execute(text(f"COMMENT ON TABLE {table} IS '{mark}'"))


def _is_loaded(connection: Connection) -> bool:
    return all(_LOADED_ROWS.fullmatch(_comment(connection, table)) for table in _TABLES)


def _require_untouched(connection: Connection) -> None:
    """Refuse if the number of rows has changed since the load, because something else then uses the tables."""
    for table in _TABLES:
        mark = _LOADED_ROWS.fullmatch(_comment(connection, table))
        rows = _count(connection, table)
        if mark is None or int(mark[1]) != rows:
            raise DatabaseError(
                f"The table {table} holds {rows:,} rows, not the {int(mark[1]) if mark else 0:,} that bkt-pipeline "
                "load wrote: something else writes to it, so --replace leaves it as it is. Load into an empty "
                "database instead."
            )


def _drop(connection: Connection) -> None:
    if _exists(connection, "skill_bkt_params"):
        connection.execute(
            text("DELETE FROM skill_bkt_params WHERE skill_id::text IN (SELECT id::text FROM skills)")
        )
    # First, because a view there reads the tables.
    connection.execute(text("DROP SCHEMA IF EXISTS bkt_pipeline CASCADE"))
    connection.execute(text("DROP TABLE attempts, items, skills"))


def _exists(connection: Connection, table: str) -> bool:
    return connection.execute(text(f"SELECT to_regclass('{table}') IS NOT NULL")).scalar() is True


def _comment(connection: Connection, table: str) -> str:
    comment = connection.execute(text(f"SELECT obj_description(to_regclass('{table}'), 'pg_class')")).scalar()
    return str(comment or "")


def _count(connection: Connection, table: str) -> int:
    if not _exists(connection, table):
        return 0
    return int(connection.execute(select(func.count()).select_from(sql_table(table))).scalar_one())
