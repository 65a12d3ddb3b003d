"""The view `current_params`, from which the platform's backend reads the parameters of every active skill.

It joins the platform's own tables, whose names and types differ, so it is created when these are known and not by a
migration. It reads with the rights of the role that created it. A migration that changes a column which it reads drops
it first.
"""

import hashlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from psycopg import sql
from sqlalchemy import Column, Connection, DateTime, Row, Table, text
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.connection import psycopg_connection
from bkt_pipeline.db.params import FULL_ATTEMPTS
from bkt_pipeline.db.platform import Platform
from bkt_pipeline.db.relations import is_text
from bkt_pipeline.db.retry import reason, sqlstate
from bkt_pipeline.db.schema import PARAMETERS
from bkt_pipeline.model.bkt.prior import SHIPPED_PRIOR

__all__ = ["ages_by_source", "describe_view", "refresh_view"]

log = logging.getLogger("bkt_pipeline")

VIEW_NAME = "bkt_pipeline.current_params"
# Made by grants.sql. A view that is created again grants it the right to read again.
BACKEND_ROLE = "bkt_backend"
_COLUMNS_DIFFER = "42P16"
_LOST = ("08", "57")  # classes of SQLSTATE: connection lost, operator intervention

COMMENT = "Parameters to use now for each active skill, as the backend reads them"
COLUMN_COMMENTS = {
    "skill_id": "Skill, as in skills.id",
    **PARAMETERS,
    "source": f"calibrated; thin: on fewer than {FULL_ATTEMPTS} attempts; prior: what the school's skills have in common;"
    " default: no night has found out anything",
    "as_of": "End of the window that was calibrated, or of the night that learned the prior",
    "age_nights": "UTC days since as_of: 0 on the day of the night",
    "attempts": "Graded attempts that it was fitted on; NULL if no night published it",
    "tier": "insufficient, provisional, usable or good, by number of students; NULL if no night published it",
}

# The row need not be the one that a night published: it may have been changed since, or deleted and seeded.
_VIEW = sql.SQL(
    """
    CREATE OR REPLACE VIEW bkt_pipeline.current_params AS
    WITH prior AS (
        SELECT * FROM bkt_pipeline.school_priors
        WHERE night <= (now() AT TIME ZONE 'UTC')::date ORDER BY night DESC LIMIT 1
    )
    SELECT skill_id, p_l0, p_transit, p_slip, p_guess, source, as_of,
        (now() AT TIME ZONE 'UTC')::date - (as_of AT TIME ZONE 'UTC')::date AS age_nights, attempts, tier
    FROM (
        SELECT skill.id AS skill_id,
            CASE WHEN stored.usable THEN stored.p_l0 ELSE coalesce(prior.p_l0, {p_l0}) END AS p_l0,
            CASE WHEN stored.usable THEN stored.p_transit ELSE coalesce(prior.p_transit, {p_transit}) END AS p_transit,
            CASE WHEN stored.usable THEN stored.p_slip ELSE coalesce(prior.p_slip, {p_slip}) END AS p_slip,
            CASE WHEN stored.usable THEN stored.p_guess ELSE coalesce(prior.p_guess, {p_guess}) END AS p_guess,
            CASE
                WHEN stored.usable IS NOT TRUE THEN CASE WHEN prior.night IS NULL THEN 'default' ELSE 'prior' END
                WHEN own.unchanged THEN CASE
                    WHEN fit.night IS NOT NULL AND fit.log_likelihood IS NULL THEN 'default'
                    WHEN coalesce(published.attempts, fit.attempts) < {full} THEN 'thin'
                    ELSE 'calibrated' END
                WHEN isfinite(stored.calibrated_at) THEN 'calibrated'
                ELSE 'default'
            END AS source,
            CASE
                WHEN stored.usable IS NOT TRUE THEN prior.as_of
                WHEN own.unchanged THEN CASE WHEN isfinite(published.as_of) THEN published.as_of END
                WHEN isfinite(stored.calibrated_at) THEN stored.calibrated_at
            END AS as_of,
            CASE WHEN stored.usable AND own.unchanged THEN coalesce(published.attempts, fit.attempts) END AS attempts,
            CASE WHEN stored.usable AND own.unchanged THEN fit.tier END AS tier
        FROM {skills} AS skill
        LEFT JOIN LATERAL (
            SELECT *,
                p_l0 BETWEEN 0 AND 1 AND p_transit BETWEEN 0 AND 1 AND p_slip BETWEEN 0 AND 0.5
                    AND p_guess BETWEEN 0 AND 0.5 AND p_slip + p_guess < 1 AS usable
            FROM (
                SELECT target.p_l0::float8, target.p_transit::float8, target.p_slip::float8, target.p_guess::float8,
                    {calibrated_at} AS calibrated_at
                FROM {target} AS target WHERE target.skill_id = {key}
            ) AS numbers
        ) AS stored ON true
        LEFT JOIN bkt_pipeline.published_params AS published
            ON published.skill_id = skill.id::text COLLATE "default"
        LEFT JOIN bkt_pipeline.skill_fits AS fit
            ON fit.skill_id = published.skill_id AND fit.night = (published.as_of AT TIME ZONE 'UTC')::date
            AND fit.as_of = published.as_of
        LEFT JOIN LATERAL (
            SELECT published.skill_id IS NOT NULL AND (fit.night IS NULL OR greatest(
                abs(fit.p_l0 - stored.p_l0), abs(fit.p_transit - stored.p_transit), abs(fit.p_slip - stored.p_slip),
                abs(fit.p_guess - stored.p_guess)) < 1e-6) AS unchanged
        ) AS own ON true
        LEFT JOIN prior ON true
        WHERE skill.active
    ) AS found
    """
)

_STATE = text(
    """
    SELECT obj_description(view.oid, 'pg_class') AS comment, ARRAY(
        SELECT DISTINCT d.refobjid FROM pg_rewrite r JOIN pg_depend d
        ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
        WHERE r.ev_class = view.oid
    ) AS reads
    FROM pg_class view WHERE view.oid = to_regclass('bkt_pipeline.current_params')
    """
)
_COUNTS = text(
    "SELECT source, count(*) AS skills FROM bkt_pipeline.current_params GROUP BY source ORDER BY source"
)
_AGES = text(
    "SELECT source, age_nights, count(*) AS skills FROM bkt_pipeline.current_params"
    " GROUP BY source, age_nights ORDER BY source, age_nights"
)
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('bkt_pipeline:migrate', 0))")
_ROLE_EXISTS = text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)")


def refresh_view(connection: Connection, platform: Platform) -> None:
    """Create the view, or create it again if the platform's tables or its definition have changed.

    A role that may not create it leaves it as it is; `bkt-pipeline doctor` reports that.
    """
    if not _outdated(connection, platform):
        return
    try:
        with connection.begin_nested():
            connection.execute(_LOCK)
            # Another process may have created it meanwhile.
            if _outdated(connection, platform):
                _create(connection, _definition(connection, platform))
    except DBAPIError as error:
        if (sqlstate(error) or "08").startswith(_LOST):
            raise
        log.warning("the view %s could not be brought up to date: %s", VIEW_NAME, reason(error))


def _outdated(connection: Connection, platform: Platform) -> bool:
    """Whether the view is missing, has an older definition, or reads other tables than the platform's."""
    found = connection.execute(_STATE).first()
    if found is None:
        return True
    reads = {platform.skills.info["oid"], platform.target.info["oid"]}
    return not reads <= set(found.reads) or found.comment != _comment(_definition(connection, platform))


def describe_view(connection: Connection, platform: Platform) -> str:
    """What the backend reads from the view now, or why it cannot."""
    if _outdated(connection, platform):
        if why := _refused(connection, lambda: _create(connection, _definition(connection, platform))):
            return (
                f"{VIEW_NAME} is missing or out of date, and this role may not create it: {why}; run bkt-pipeline "
                "migrate with the DATABASE_URL of the owner of the platform's tables. Nights run without it."
            )
        return f"{VIEW_NAME} is missing or out of date; the next night creates it"
    counts: list[Row[Any]] = []
    if why := _refused(connection, lambda: counts.extend(connection.execute(_COUNTS))):
        return f"{VIEW_NAME} cannot be read: {why}; it reads with the rights of the role that owns it"
    return f"{VIEW_NAME}: " + (", ".join(f"{row.skills:,} {row.source}" for row in counts) or "no skills")


def ages_by_source(connection: Connection) -> list[tuple[str, int | None, int]]:
    """How many rows of the view have each source and age in nights; None: nobody knows since when."""
    return [(row.source, row.age_nights, row.skills) for row in connection.execute(_AGES)]


def _refused(connection: Connection, work: Callable[[], None]) -> str | None:
    """Why Postgres refuses the work, which is rolled back."""
    try:
        with connection.begin_nested() as savepoint:
            work()
            savepoint.rollback()
    except DBAPIError as error:
        if (sqlstate(error) or "08").startswith(_LOST):
            raise
        return reason(error)
    return None


def _create(connection: Connection, definition: str) -> None:
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(definition)
    except DBAPIError as error:
        if sqlstate(error) != _COLUMNS_DIFFER:
            raise
        connection.exec_driver_sql(f"DROP VIEW {VIEW_NAME}")
        connection.exec_driver_sql(definition)
    comments = {f"VIEW {VIEW_NAME}": _comment(definition)}
    comments |= {f"COLUMN {VIEW_NAME}.{name}": comment for name, comment in COLUMN_COMMENTS.items()}
    driver = psycopg_connection(connection)
    for thing, comment in comments.items():
        connection.exec_driver_sql(f"COMMENT ON {thing} IS {sql.quote(comment, driver)}")
    if connection.execute(_ROLE_EXISTS, {"role": BACKEND_ROLE}).scalar():
        connection.exec_driver_sql(f"GRANT SELECT ON {VIEW_NAME} TO {BACKEND_ROLE}")


def _definition(connection: Connection, platform: Platform) -> str:
    # Rounded, so that the definition is the same on every machine.
    default = np.round(1.0 / (1.0 + np.exp(-SHIPPED_PRIOR.mean)), 9).tolist()
    parts = {
        **dict(zip(PARAMETERS, (sql.SQL(repr(value)) for value in default), strict=True)),
        "full": sql.Literal(FULL_ATTEMPTS),
        "skills": _name(platform.skills),
        "target": _name(platform.target),
        "key": _key(platform),
        "calibrated_at": _moment(platform.target.c.calibrated_at),
    }
    return _VIEW.format(**parts).as_string(psycopg_connection(connection))


def _name(table: Table) -> sql.Identifier:
    assert table.schema is not None
    return sql.Identifier(table.schema, table.name)


def _key(platform: Platform) -> sql.Composable:
    """The skill's id as the target table compares it; its collation decides, as in a foreign key to skills."""
    ids, target = platform.skills.c.id, platform.target.c.skill_id
    if is_text(target) and not is_text(ids):
        return sql.SQL("skill.id::text")
    # The collation is quoted where it is read from the catalogue.
    collation = ids.info["collation"]
    return sql.SQL(f"skill.id COLLATE {collation}" if collation else "skill.id")


def _moment(column: Column[Any]) -> sql.Composable:
    """The column as a time with a zone, whatever the session's zone; NULL if it is of another type."""
    if not isinstance(column.type, DateTime):
        return sql.SQL("NULL::timestamptz")
    return sql.SQL(
        "target.calibrated_at" if column.type.timezone else "target.calibrated_at AT TIME ZONE 'UTC'"
    )


def _comment(definition: str) -> str:
    """The view's comment, which identifies its definition."""
    return f"{COMMENT} (definition {hashlib.sha256(definition.encode()).hexdigest()[:12]})"
