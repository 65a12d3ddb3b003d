"""Checks permissions: a table that this role may not read is an error, never an empty table."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, Table, select, text
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.retry import reason, sqlstate
from bkt_pipeline.errors import PermissionMissing

NOT_ALLOWED = "42501"


def require_readable(connection: Connection, table: Table, columns: Sequence[str]) -> None:
    """Check that this role can read these columns of every row.

    The statement returns no rows, but Postgres checks all its permissions, including those on the tables behind a
    view. With row_security off, Postgres refuses a query that a policy would filter.

    Raises
    ------
    PermissionMissing
        The role may not read the columns, or a policy would hide rows.
    """
    chosen = [table.c[name] for name in columns]
    refused = _refusal(connection, chosen, row_security=False)
    if refused is None:
        return
    role = role_name(connection)
    named = name_of(connection, table)
    if _refusal(connection, chosen, row_security=True) is None:
        raise PermissionMissing(
            f"row-level security hides rows of {named} from the role {role}, so its counts would be wrong; "
            f"let the role see all rows (ALTER ROLE {role} BYPASSRLS), or read through a view that belongs to the "
            "owner of the table"
        )
    missing = _unreadable(connection, table, columns)
    if missing:
        listed = "" if len(missing) == len(columns) else f" ({', '.join(missing)})"
        raise PermissionMissing(
            f"the role {role} may not read {named}{listed}; issue: GRANT SELECT{listed} ON {named} TO {role};"
        )
    schema = connection.execute(
        text(
            "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname = :schema"
            " AND NOT has_schema_privilege(oid, 'USAGE')"
        ),
        {"schema": table.schema},
    ).scalar()
    if schema:
        raise PermissionMissing(
            f"the role {role} may not use the schema {schema}; issue: GRANT USAGE ON SCHEMA {schema} TO {role};"
        )
    raise PermissionMissing(
        f"the role {role} may not read {named}: {reason(refused)}; grant SELECT on what is named there to the role, "
        "or to the owner of the view"
    )


def role_name(connection: Connection) -> str:
    """The current role, quoted if SQL requires it."""
    return str(connection.execute(text("SELECT quote_ident(current_user)")).scalar())


def name_of(connection: Connection, table: Table) -> str:
    """The relation's name in SQL, with its schema if the search path does not find it."""
    return str(connection.execute(text("SELECT cast(:oid AS oid)::regclass::text"), table.info).scalar())


def _refusal(
    connection: Connection, columns: Sequence[Column[Any]], *, row_security: bool
) -> DBAPIError | None:
    try:
        with connection.begin_nested():
            connection.execute(
                text("SELECT set_config('row_security', :value, true)"),
                {"value": "on" if row_security else "off"},
            )
            connection.execute(select(*columns).limit(0))
    except DBAPIError as error:
        if sqlstate(error) != NOT_ALLOWED:
            raise
        return error
    return None


def _unreadable(connection: Connection, table: Table, columns: Sequence[str]) -> list[str]:
    return [
        name
        for name in columns
        if not connection.execute(
            text("SELECT has_column_privilege(cast(:oid AS oid), cast(:name AS text), 'SELECT')"),
            {"oid": table.info["oid"], "name": name},
        ).scalar()
    ]
