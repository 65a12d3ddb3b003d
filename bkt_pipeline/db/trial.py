"""Tries what a night writes, in a transaction that is rolled back, and reports what would fail."""

from collections import Counter
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Table, Text, cast, select, text
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.attempts import read_active_skills
from bkt_pipeline.db.isolation import unusable_keys
from bkt_pipeline.db.items import platform_columns, update_platform
from bkt_pipeline.db.migrations import current, migrate, newest
from bkt_pipeline.db.params import write_rows
from bkt_pipeline.db.permissions import NOT_ALLOWED, name_of, role_name
from bkt_pipeline.db.platform import Platform, Source
from bkt_pipeline.db.retry import is_transient, reason, sqlstate
from bkt_pipeline.db.schema import SCHEMA, own
from bkt_pipeline.db.target import TARGET, create_target
from bkt_pipeline.errors import BktError
from bkt_pipeline.settings import settings

TRIED = (
    0.25,
    0.125,
    0.0625,
    0.1875,
    -123.456,
)  # parameters and a log-likelihood such as a night could publish
TRIED_ITEMS = 200
_MISSING = ("42P01", "42703")  # a table, a column
_UNWRITABLE = text(
    """
    SELECT coalesce(string_agg(relname, ', ' ORDER BY relname), '') FROM pg_class
    WHERE relnamespace = 'bkt_pipeline'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
      AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
               AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))
    """
)


def read_only(connection: Connection) -> str | None:
    """The reason why this session cannot write; None if it can."""
    standby, session = connection.execute(
        text("SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'")
    ).one()
    if standby:
        return "this server is a standby, which accepts no writes; set DATABASE_URL to the primary"
    if session:
        role = role_name(connection)
        return (
            "the session is read-only (default_transaction_read_only), but a night must write; issue: "
            f"BEGIN READ WRITE; ALTER ROLE {role} SET default_transaction_read_only = off; COMMIT;"
        )
    return None


def try_writes(
    connection: Connection, source: Source, target: Table | None, schema: str | None
) -> dict[str, str]:
    """What a night could not write, with the reasons. All changes are rolled back."""
    found = {
        TARGET: _undone(connection, lambda: _write_target(connection, source, target, schema)),
        "items": _undone(connection, lambda: _may_not_update_items(connection, source)),
        "item rows": _undone(connection, lambda: _write_items(connection, source)),
        "schema": _undone(connection, lambda: _write_own(connection)),
    }
    return {name: why for name, why in found.items() if why}


def _undone(connection: Connection, work: Callable[[], str | None]) -> str | None:
    savepoint = connection.begin_nested()
    try:
        return work()
    except DBAPIError as error:
        if is_transient(error):
            raise
        if sqlstate(error) == NOT_ALLOWED:
            return (
                f"{reason(error)}; run bkt-pipeline migrate with the DATABASE_URL of the owner of the platform's "
                "tables, then the SQL of bkt-pipeline migrate --print-grants"
            )
        return reason(error)
    except BktError as error:
        return str(error)
    finally:
        savepoint.rollback()


def _write_target(
    connection: Connection, source: Source, target: Table | None, schema: str | None
) -> str | None:
    if target is None:
        create_target(connection, source.skills, schema)
        return None
    platform = Platform(source.skills, source.items, source.attempts, target)
    keys = read_active_skills(connection, source)
    unusable = unusable_keys(source, keys)
    usable = [key for key in keys if key not in unusable]
    refused = _refused(connection, platform, usable)
    if not refused:
        return None
    reasons = Counter(refused.values())
    return "; ".join(f"{why} ({count:,} of {len(usable):,} skills)" for why, count in reasons.most_common(3))


def _refused(connection: Connection, platform: Platform, keys: Sequence[str]) -> dict[str, str]:
    """The skills whose row the target table does not take, with the reasons; halves what fails, as a night does."""
    if not keys:
        return {}
    savepoint = connection.begin_nested()
    try:
        write_rows(connection, platform, dict.fromkeys(keys, TRIED))
        return {}
    except (DBAPIError, BktError) as error:
        if isinstance(error, DBAPIError) and is_transient(error):
            raise
        if isinstance(error, DBAPIError) and sqlstate(error) == NOT_ALLOWED:
            raise
        if len(keys) == 1:
            return {keys[0]: reason(error)}
    finally:
        savepoint.rollback()
    middle = len(keys) // 2
    return _refused(connection, platform, keys[:middle]) | _refused(connection, platform, keys[middle:])


def _may_not_update_items(connection: Connection, source: Source) -> str | None:
    if not settings().update_items:
        return None
    refused = [name for name, may in platform_columns(connection, source).items() if not may]
    if not refused:
        return None
    columns = ", ".join(refused)
    grant = f"GRANT UPDATE ({columns}) ON {name_of(connection, source.items)} TO {role_name(connection)};"
    own = f"{SCHEMA}.item_irt_params"
    return (
        f"this role has no right to {columns} of items, so their parameters would be in {own} only; "
        f"issue: {grant} or set BKT_UPDATE_ITEMS=no"
    )


def _write_items(connection: Connection, source: Source) -> str | None:
    columns = platform_columns(connection, source)
    if not settings().update_items or not columns or not all(columns.values()):
        return None
    items, skills = source.items.c, source.skills.c
    names = select(cast(skills.id, Text).label("skill_id"), cast(items.id, Text).label("item_id"))
    some = names.join_from(source.items, source.skills, items.skill_id == skills.id).where(skills.active)
    rows = connection.execute(some.order_by(items.id).limit(TRIED_ITEMS)).mappings()
    update_platform(connection, source, [{**row, "irt_a": TRIED[0], "irt_b": TRIED[1]} for row in rows])
    return None


def _write_own(connection: Connection) -> str | None:
    if current(connection) != newest():
        migrate(connection)
        return None
    try:
        for table in own.sorted_tables:
            connection.execute(select(table).limit(0))
    except DBAPIError as error:
        if sqlstate(error) not in _MISSING:
            raise
        return (
            f"the schema {SCHEMA} is not as a migration left it: {reason(error)}; restore it from a backup, or drop it and "
            "run bkt-pipeline migrate"
        )
    refused = connection.execute(_UNWRITABLE).scalar()
    if not refused:
        return None
    return (
        f"this role may not write {refused} of {SCHEMA}; as the owner of the platform's tables, run the SQL of "
        "bkt-pipeline migrate --print-grants"
    )
