"""The state of a platform's database after nights: to compare it, and to find inconsistent rows."""

from typing import Any

import psycopg
from psycopg import sql

from bkt_pipeline.db.schema import own

# These columns differ between runs; all others do not.
CIRCUMSTANCES = ["calibrated_at", "run_id", "stored_at", "recorded_at", "seconds"]


def snapshot(url: str) -> dict[str, list[Any]]:
    """Every row that the pipeline has stored, without the columns that differ between runs."""
    tables = [("public", "skill_bkt_params")] + [("bkt_pipeline", table.name) for table in own.sorted_tables]
    query = sql.SQL(
        "SELECT kept FROM {} t, LATERAL (SELECT to_jsonb(t) - %s::text[] AS kept) AS row ORDER BY kept::text"
    )
    with psycopg.connect(url) as connection:
        return {
            name: [
                row
                for (row,) in connection.execute(query.format(sql.Identifier(schema, name)), [CIRCUMSTANCES])
            ]
            for schema, name in tables
        }


TORN = {
    "a window whose counts differ from its rows": """
        SELECT coalesce(h.skill_id, r.skill_id)
        FROM bkt_pipeline.attempt_windows h
        FULL JOIN (
            SELECT skill_id, count(*) AS students, sum(length(answers)) AS attempts
            FROM bkt_pipeline.attempt_window
            GROUP BY skill_id
        ) r USING (skill_id)
        WHERE (h.students, h.attempts) IS DISTINCT FROM (coalesce(r.students, 0), coalesce(r.attempts, 0))
    """,
    "parameters that differ from the published calibration": """
        SELECT coalesce(t.skill_id::text, p.skill_id)
        FROM skill_bkt_params t
        FULL JOIN bkt_pipeline.published_params p ON p.skill_id = t.skill_id::text
        LEFT JOIN bkt_pipeline.skill_fits f ON f.skill_id = p.skill_id AND f.as_of = p.as_of
        WHERE (t.p_l0, t.p_transit, t.p_slip, t.p_guess, t.log_likelihood)
            IS DISTINCT FROM (f.p_l0, f.p_transit, f.p_slip, f.p_guess, f.log_likelihood)
    """,
    "parameters that are newer than the window": """
        SELECT p.skill_id
        FROM bkt_pipeline.published_params p
        LEFT JOIN bkt_pipeline.attempt_windows h USING (skill_id)
        WHERE h.as_of IS NULL OR p.as_of > h.as_of
    """,
    "a calibrated skill whose parameters were not stored with it": """
        SELECT n.skill_id
        FROM bkt_pipeline.night_skills n
        LEFT JOIN bkt_pipeline.skill_fits f USING (night, skill_id)
        WHERE n.outcome = 'calibrated' AND (n.as_of, n.run_id) IS DISTINCT FROM (f.as_of, f.run_id)
    """,
}


def torn(url: str) -> dict[str, list[str]]:
    """Inconsistent skills by kind of inconsistency; empty if the database is consistent."""
    with psycopg.connect(url) as connection:
        # Our schema is created last; a night killed before that has stored nothing.
        if connection.execute("SELECT to_regclass('bkt_pipeline.attempt_windows')").fetchone() == (None,):
            return {}
        found = {what: connection.execute(query).fetchall() for what, query in TORN.items()}
    return {what: [skill for (skill,) in rows] for what, rows in found.items() if rows}
