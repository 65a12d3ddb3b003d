"""What a night would find in the database, told without changing anything."""

import datetime as dt
from collections.abc import Iterator

from sqlalchemy import Connection, Table, func, inspect, select, text

from bkt_pipeline.db.connection import close
from bkt_pipeline.db.database import connect
from bkt_pipeline.db.migrations import current, newest
from bkt_pipeline.db.platform import TARGET, Source, reflect_source
from bkt_pipeline.db.retry import retrying
from bkt_pipeline.db.schema import night_skills

WINDOW_DAYS = 30


def findings() -> list[tuple[str, str]]:
    """Name and finding, line by line.

    Raises
    ------
    DatabaseError
        There is no database, or its tables are not what calibration needs.
    """
    engine, embedded = connect(budget_seconds=0)
    try:
        return retrying(engine, lambda connection: list(_look(connection, embedded)))
    finally:
        close(engine)


def _look(connection: Connection, embedded: bool) -> Iterator[tuple[str, str]]:
    name, server, user = connection.execute(
        text("SELECT current_database(), current_setting('server_version'), current_user")
    ).one()
    where = "the embedded server (DATABASE_URL is not set)" if embedded else "DATABASE_URL"
    yield "database", f"{name} as {user}, at {where}"
    yield "server", f"PostgreSQL {server}"
    revision = current(connection)
    if embedded and not inspect(connection).has_table("skills"):
        yield "tables", "none yet; the first night or load makes them"
        return
    source = reflect_source(connection)
    for table in (source.skills, source.items, source.attempts):
        yield "table", f"{table.name}: {', '.join(_typed(table))}"
    yield (
        "table",
        f"{TARGET}: {'there' if inspect(connection).has_table(TARGET) else 'missing; the next night makes it'}",
    )
    yield from _window(connection, source)
    missing = list(missing_indexes(connection, source))
    yield (
        "indexes",
        "all there" if not missing else "missing; a night reads far more than it needs without them:",
    )
    for statement in missing:
        yield "", statement
    if revision == newest():
        yield "migrations", f"bkt_pipeline is at {revision}, the newest"
        yield "last night", _last_night(connection)
    else:
        at = f"at {revision}, behind {newest()}" if revision else "not there yet"
        yield "migrations", f"bkt_pipeline is {at}; the next night brings it up to date"


def _typed(table: Table) -> Iterator[str]:
    for column in table.columns:
        if column.name in ("id", "skill_id", "student_id", "item_id", "active", "is_correct", "created_at"):
            yield f"{column.name} {str(column.type).lower()}"


def _window(connection: Connection, source: Source) -> Iterator[tuple[str, str]]:
    now = dt.datetime.now(dt.UTC)
    bound = now if source.zoned else now.replace(tzinfo=None)
    skills, attempts = source.skills, source.attempts
    active, all_skills = connection.execute(
        select(func.count().filter(skills.c.active), func.count()).select_from(skills)
    ).one()
    yield "skills", f"{active:,} active of {all_skills:,}"
    in_window, ungraded, newest_attempt = connection.execute(
        select(
            func.count(),
            func.count().filter(attempts.c.is_correct.is_(None)),
            func.max(attempts.c.created_at),
        ).where(
            attempts.c.created_at > bound - dt.timedelta(days=WINDOW_DAYS), attempts.c.created_at <= bound
        )
    ).one()
    last = f", the newest of {newest_attempt:%Y-%m-%d %H:%M} UTC" if newest_attempt else ""
    yield "attempts", f"{in_window:,} in the last {WINDOW_DAYS} days{last}; {ungraded:,} of them ungraded"


def missing_indexes(connection: Connection, source: Source) -> Iterator[str]:
    """DDL of each index that a night wants and the platform lacks; making it is the platform's decision."""
    key = ", ".join(column.name for column in source.attempts.primary_key.columns)
    wanted = {
        "attempts": (
            ("item_id", "created_at"),
            f"CREATE INDEX CONCURRENTLY ON attempts (item_id, created_at) INCLUDE (student_id, is_correct, {key});",
        ),
        "items": (("skill_id",), "CREATE INDEX CONCURRENTLY ON items (skill_id);"),
    }
    for table, (columns, statement) in wanted.items():
        leading = [
            tuple(index["column_names"][: len(columns)]) for index in inspect(connection).get_indexes(table)
        ]
        if columns not in leading:
            yield statement


def _last_night(connection: Connection) -> str:
    night = connection.execute(select(func.max(night_skills.c.night))).scalar()
    if night is None:
        return "none yet"
    counts = connection.execute(
        select(night_skills.c.outcome, func.count())
        .where(night_skills.c.night == night)
        .group_by(night_skills.c.outcome)
        .order_by(night_skills.c.outcome)
    )
    return f"{night}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts)
