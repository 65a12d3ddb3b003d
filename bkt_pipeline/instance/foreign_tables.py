"""Whether the database for Dagster's storage holds another program's tables under the names that Dagster uses."""

from sqlalchemy import Connection, text

from bkt_pipeline.errors import InvalidSettings

# A column that only Dagster's table of that name has.
_DAGSTERS = {"runs": "run_body", "event_logs": "dagster_event_type", "jobs": "job_body"}
_VERSION = "alembic_version"


def refuse_foreign_tables(connection: Connection) -> None:
    """Raise `InvalidSettings` where Dagster would write into another program's tables.

    Dagster makes its tables before its alembic_version, so an alembic_version without them is another program's, often
    the platform's own.
    """
    columns = {table: _columns(connection, table) for table in (*_DAGSTERS, _VERSION)}
    dagsters = [table for table, column in _DAGSTERS.items() if column in columns[table]]
    for table in _DAGSTERS:
        if columns[table] and table not in dagsters:
            raise foreign(table)
    if columns[_VERSION] and not dagsters:
        raise foreign(_VERSION)


def foreign(table: str = _VERSION) -> InvalidSettings:
    """The error for a database whose `table` is another program's."""
    return InvalidSettings(
        f"DAGSTER_POSTGRES_URL names a database whose table {table} is not Dagster's but another program's; create a "
        "database for Dagster alone (CREATE DATABASE dagster) and name that one"
    )


def _columns(connection: Connection, table: str) -> set[str]:
    """The columns of the table that the role finds under this name; none if there is no such table."""
    statement = text(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped"
    )
    return set(connection.execute(statement, {"table": table}).scalars())
