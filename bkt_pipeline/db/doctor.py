"""What a night would find in the database, and what would stop it, reported without changing anything."""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection, Table, func, literal, select, text
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.calibration.skills import require_estimates
from bkt_pipeline.db.advice import adapting_views, missing_indexes
from bkt_pipeline.db.answers import reflect_mastery
from bkt_pipeline.db.attempts import in_window, read_active_skills
from bkt_pipeline.db.backend import describe_view
from bkt_pipeline.db.connection import close
from bkt_pipeline.db.database import connect
from bkt_pipeline.db.isolation import shown_key, unusable_keys
from bkt_pipeline.db.left_out import count_orphans, count_repeats, count_ties, left_out
from bkt_pipeline.db.migrations import current, known_revisions, newest
from bkt_pipeline.db.nights import latest_night_date
from bkt_pipeline.db.older_answers import older_answers
from bkt_pipeline.db.platform import REQUIRED_COLUMNS, Platform, Source, has_usable_type, reflect_source
from bkt_pipeline.db.relations import find_relations, kind_of
from bkt_pipeline.db.retry import is_transient, reason, retrying
from bkt_pipeline.db.returning import returning_students, sampled
from bkt_pipeline.db.schema import night_skills
from bkt_pipeline.db.target import TARGET, find_target
from bkt_pipeline.db.trial import read_only, try_writes
from bkt_pipeline.db.urls import platform_name
from bkt_pipeline.embedded.home import note_platform
from bkt_pipeline.errors import DatabaseError, InvalidSettings, PermissionMissing
from bkt_pipeline.settings import database_url, settings

CAN_RUN, WOULD_FAIL, UNUSABLE = 0, 1, 2
_OPTIONAL = ("items",)  # without these rights a night still succeeds


@dataclass
class Diagnosis:
    """Findings line by line, as name and text, and the command's exit code.

    0: a night can run; 1: something that it does would fail, or is not allowed; 2: the platform's tables are not
    what it needs.
    """

    lines: list[tuple[str, str]] = field(default_factory=list)
    exit_code: int = CAN_RUN

    def add(self, name: str, finding: str, exit_code: int = CAN_RUN) -> None:
        """Add a line; the gravest exit code stays."""
        self.lines.append((name, finding))
        self.exit_code = max(self.exit_code, exit_code)


def diagnose() -> Diagnosis:
    """Try what a night does, in a transaction that is rolled back.

    Raises
    ------
    DatabaseError
        There is no database.
    """
    engine, embedded = connect(budget_seconds=0)
    try:
        found = retrying(engine, partial(_diagnose, embedded=embedded))
        if not embedded and (url := database_url()):
            note_platform(platform_name(url))
        return found
    finally:
        close(engine)


def _diagnose(connection: Connection, embedded: bool) -> Diagnosis:
    found, schema = Diagnosis(), settings().source_schema
    name, server, user = connection.execute(
        text("SELECT current_database(), current_setting('server_version'), current_user")
    ).one()
    where = "the embedded server (DATABASE_URL is not set)" if embedded else "DATABASE_URL"
    found.add("database", f"{name} as {user}, at {where}")
    found.add("server", f"PostgreSQL {server}")
    try:
        require_estimates(settings().min_attempts, settings().estimator)
    except InvalidSettings as error:
        found.add("fails", str(error), WOULD_FAIL)
    if embedded and not find_relations(connection, ["skills"], schema):
        found.add("tables", "not there yet; the first night or load creates them")
        return found
    if why := read_only(connection):
        found.add("fails", why, WOULD_FAIL)
    savepoint = connection.begin_nested()
    try:
        source = reflect_source(connection, schema)
    except DatabaseError as error:
        savepoint.rollback()
        found.add("fails", str(error), _exit_code(error))
        if not isinstance(error, PermissionMissing) and _needs_views(connection, schema):
            found.add(
                "views", "these adapt a platform with other names or types; replace what is in capitals:"
            )
            for statement in adapting_views(connection, schema):
                found.add("", statement)
        return found
    for table in (source.skills, source.items, source.attempts):
        found.add("table", f"{table.name} ({kind_of(table)}): {', '.join(_typed(table))}")
    target = _target(connection, source, schema, found)
    refused = try_writes(connection, source, target, schema) if found.exit_code == CAN_RUN else {}
    for name, why in refused.items():
        found.add(*(("fails", why, WOULD_FAIL) if name not in _OPTIONAL else (name, why)))
    for section in (_mastery, _attempts, _returning, _left_out, _order, _indexes):
        _add(connection, source, found, section)
    if "schema" not in refused:
        _add(connection, source, found, partial(_last_night, target=target))
    return found


Section = Callable[[Connection, Source], Iterator[tuple[str, str]]]


def _exit_code(error: DatabaseError) -> int:
    return WOULD_FAIL if isinstance(error, PermissionMissing) else UNUSABLE


def _add(connection: Connection, source: Source, found: Diagnosis, section: Section) -> None:
    try:
        with connection.begin_nested():
            lines = list(section(connection, source))
    except DBAPIError as error:
        if is_transient(error):
            raise
        lines = [("fails", f"a table cannot be read: {reason(error)}")]
    except DatabaseError as error:
        lines = [("fails", str(error))]
    for name, finding in lines:
        found.add(name, finding, WOULD_FAIL if name == "fails" else CAN_RUN)


def _needs_views(connection: Connection, schema: str | None) -> bool:
    """Whether a table or a column is missing or of another type, which views can adapt, rather than a permission."""
    found = find_relations(connection, tuple(REQUIRED_COLUMNS), schema)
    return any(
        name not in found
        or any(
            column not in found[name].c or not has_usable_type(found[name].c[column]) for column in columns
        )
        for name, columns in REQUIRED_COLUMNS.items()
    )


def _target(connection: Connection, source: Source, schema: str | None, found: Diagnosis) -> Table | None:
    savepoint = connection.begin_nested()
    try:
        target = find_target(connection, source.skills, schema)
    except DatabaseError as error:
        savepoint.rollback()
        found.add("fails", str(error), _exit_code(error))
        return None
    state = "missing; the next night creates it" if target is None else f"there ({kind_of(target)})"
    found.add("table", f"{TARGET}: {state}")
    return target


def _typed(table: Table) -> Iterator[str]:
    for column in table.columns:
        if column.name in ("id", *REQUIRED_COLUMNS[table.name], "attempt_order"):
            yield f"{column.name} {column.info['type']}"


def _mastery(connection: Connection, source: Source) -> Iterator[tuple[str, str]]:
    if settings().theta_from == "mastery":
        mastery = reflect_mastery(connection, settings().source_schema)
        yield "table", f"{mastery.name} ({kind_of(mastery)})"


def _attempts(connection: Connection, source: Source) -> Iterator[tuple[str, str]]:
    now = dt.datetime.now(dt.UTC)
    skills, attempts = source.skills.c, source.attempts.c
    active, all_skills = connection.execute(
        select(func.count().filter(skills.active), func.count()).select_from(source.skills)
    ).one()
    yield "skills", f"{active:,} active of {all_skills:,}"
    if not active:
        yield "fails", "no skill is active, so there is nothing to calibrate; set skills.active"
    odd = literal(0) if source.odd_grade is None else func.count().filter(source.odd_grade)
    in_it, ungraded, newest_attempt, odd_grades = connection.execute(
        select(
            func.count(),
            func.count().filter(attempts.is_correct.is_(None)),
            func.max(attempts.created_at),
            odd,
        ).where(in_window(source, now, settings().window_days))
    ).one()
    last = f", the newest of {newest_attempt:%Y-%m-%d %H:%M} UTC" if newest_attempt else ""
    yield (
        "attempts",
        f"{in_it:,} in the last {settings().window_days} days{last}; {ungraded:,} of them ungraded",
    )
    if odd_grades:
        yield "fails", f"{odd_grades:,} attempts have an is_correct other than 0 and 1; their skills fail"
    if in_it == ungraded and (older := older_answers(connection, source, now, settings().window_days)):
        yield "", older


def _left_out(connection: Connection, source: Source) -> Iterator[tuple[str, str]]:
    now = dt.datetime.now(dt.UTC)
    orphans = count_orphans(connection, source, now, settings().window_days)
    if orphans.without_item:
        yield (
            "left out",
            f"{orphans.without_item:,} attempts of the window: items has no row of their item_id",
        )
    if orphans.without_skill:
        yield "left out", f"{orphans.without_skill:,} attempts of the window: their item has no skill"
    keys = _active_keys(connection, source)
    counted = left_out(connection, source, keys, now, settings().window_days)
    for numbers, what in (
        (counted.without_student, "attempts of the window: they have no student"),
        (counted.in_future, "attempts: their created_at is in the future"),
    ):
        if numbers:
            yield "left out", f"{sum(numbers.values()):,} {what} ({len(numbers):,} skills)"
    repeats = count_repeats(connection, source, keys, now, settings().window_days)
    if repeats:
        yield (
            "repeats",
            f"{sum(repeats.values()):,} attempts repeat another one (same student, item, time and answer; "
            f"{len(repeats):,} skills); they count as answers",
        )


def _returning(connection: Connection, source: Source) -> Iterator[tuple[str, str]]:
    keys = sampled(_active_keys(connection, source))
    students, returning = returning_students(
        connection, source, keys, dt.datetime.now(dt.UTC), settings().window_days
    )
    if students:
        yield (
            "returning",
            f"{returning / students:.0%} of the window's students answered the skill before it ({len(keys):,} skills); "
            "BKT_SEQUENCES=from_first_answer counts none of them as a beginner",
        )


def _active_keys(connection: Connection, source: Source) -> list[str]:
    keys = read_active_skills(connection, source)
    unusable = unusable_keys(source, keys)
    return [key for key in keys if key not in unusable]


def _order(connection: Connection, source: Source) -> Iterator[tuple[str, str]]:
    unusable = unusable_keys(source, read_active_skills(connection, source))
    for key, why in sorted(unusable.items()):
        yield "fails", f"skill {shown_key(key)}: {why}"
    if source.order_is_total:
        return
    keys = _active_keys(connection, source)
    tied = count_ties(connection, source, keys, dt.datetime.now(dt.UTC), settings().window_days)
    if tied:
        by = " and ".join(column.name for column in source.attempt_order[1:])
        yield (
            "order",
            f"{sum(tied.values()):,} answers share their created_at with another answer of the student that is graded "
            f"otherwise ({len(tied):,} skills), and the {by} of attempts has no order: their sequence is a guess, and the "
            "parameters with it; add a column attempt_order that counts the attempts up, or store a finer created_at",
        )


def _indexes(connection: Connection, source: Source) -> Iterator[tuple[str, str]]:
    advice = missing_indexes(connection, source)
    missing = [line for line in advice if not line.startswith("--")]
    if missing:
        yield "indexes", "missing; a night reads far more than it needs without them:"
    else:
        yield "indexes", "cannot be seen through a view:" if advice else "all there"
    for line in advice:
        yield "", line


def _last_night(connection: Connection, source: Source, target: Table | None) -> Iterator[tuple[str, str]]:
    revision = current(connection)
    if revision and revision not in known_revisions():
        yield "migrations", f"bkt_pipeline is at {revision}, which this version does not know"
        return
    if revision != newest():
        at = f"at {revision}, behind {newest()}" if revision else "not there yet"
        yield "migrations", f"bkt_pipeline is {at}; the next night brings it up to date"
        return
    yield "migrations", f"bkt_pipeline is at {revision}, the newest"
    night = latest_night_date(connection)
    counts = connection.execute(
        select(night_skills.c.outcome, func.count())
        .where(night_skills.c.night == night)
        .group_by(night_skills.c.outcome)
        .order_by(night_skills.c.outcome)
    )
    ended = ", ".join(f"{count} {outcome}" for outcome, count in counts)
    yield "last night", f"{night}: {ended}" if night else "none yet"
    if target is not None:
        platform = Platform(source.skills, source.items, source.attempts, target)
        yield "backend", describe_view(connection, platform)
