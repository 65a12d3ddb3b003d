"""The view that the platform's backend reads: every active skill has parameters, and one sentence on where they come from."""

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import psycopg
import pytest

from bkt_pipeline import __version__
from bkt_pipeline.db.database import Database, open_database
from bkt_pipeline.db.doctor import diagnose
from bkt_pipeline.db.params import publish
from bkt_pipeline.db.priors import store_prior
from bkt_pipeline.model import SHIPPED_PRIOR, BktParams, SkillFit, calibrate, pooled
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests.conftest import ID_DEFAULTS, Platform
from bkt_pipeline_tests.helpers.sources import create
from bkt_pipeline_tests.helpers.windows import window

NIGHT = dt.datetime(2026, 1, 1, 7, tzinfo=dt.UTC)


@cache
def shipped() -> tuple[float, ...]:
    return pooled(window([]), SHIPPED_PRIOR).values


def read(url: str) -> dict[str, dict[str, Any]]:
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        rows = connection.execute("SELECT * FROM bkt_pipeline.current_params").fetchall()
    return {str(row["skill_id"]): row for row in rows}


def values(row: dict[str, Any]) -> tuple[float, ...]:
    return (row["p_l0"], row["p_transit"], row["p_slip"], row["p_guess"])


def sources(url: str) -> dict[str, str]:
    return {key: row["source"] for key, row in read(url).items()}


def fit(skill: str, n_students: int, as_of: dt.datetime = NIGHT) -> SkillFit:
    answers = simulate(
        BktParams(0.3, 0.1, 0.1, 0.2), n_students=n_students, seed=1, lengths=4, skill_id=skill
    )
    return replace(calibrate(answers), as_of=as_of)


def publish_night(database: Database, *fits: SkillFit) -> None:
    database.run(
        partial(publish, platform=database.platform, fits=list(fits), run_id="run", code_version=__version__)
    )
    database.run(partial(store_prior, as_of=max(fit.as_of for fit in fits)))


@pytest.mark.parametrize("id_type", ID_DEFAULTS)
def test_every_active_skill_has_parameters_and_their_source(
    make_platform: Callable[..., Platform], monkeypatch: pytest.MonkeyPatch, id_type: str
) -> None:
    platform = make_platform(id_type)
    monkeypatch.setenv("DATABASE_URL", platform.url)
    full, thin, new, retired, seeded, broken, others = (platform.id(number) for number in range(1, 8))
    with psycopg.connect(platform.url) as connection:
        connection.cursor().executemany(
            "INSERT INTO skills (id, active) VALUES (%s, %s)",
            [(skill, skill != retired) for skill in (full, thin, new, retired, seeded, broken, others)],
        )
    with open_database() as database:
        for row in read(platform.url).values():
            assert (row["source"], row["as_of"], row["age_nights"], row["tier"]) == (
                "default",
                None,
                None,
                None,
            )
            assert values(row) == pytest.approx(shipped())
        fits = fit(str(full), 40), fit(str(thin), 8)
        publish_night(database, *fits)
        with psycopg.connect(platform.url) as connection:
            connection.cursor().executemany(
                "INSERT INTO skill_bkt_params VALUES (%s, %s, 0.1, %s, 0.2, NULL, %s)",
                [
                    (seeded, 0.3, 0.1, "infinity"),
                    (broken, "NaN", 0.1, NIGHT),
                    (others, 0.3, 0.1, NIGHT + dt.timedelta(days=1)),
                ],
            )
        found = read(platform.url)
        (mode,) = fetch(
            platform.url, "SELECT p_l0, p_transit, p_slip, p_guess FROM bkt_pipeline.school_priors"
        )
        assert str(retired) not in found
        assert {key: row["source"] for key, row in found.items()} == {
            str(full): "calibrated",
            str(thin): "thin",
            str(new): "prior",
            str(seeded): "default",
            str(broken): "prior",
            str(others): "calibrated",
        }
        for row, one in zip((found[str(full)], found[str(thin)]), fits, strict=True):
            assert values(row) == one.published.values
            assert (row["as_of"], row["attempts"], row["tier"]) == (NIGHT, one.n_attempts, one.evidence.tier)
            assert row["age_nights"] == (dt.datetime.now(dt.UTC).date() - NIGHT.date()).days
        assert values(found[str(new)]) == values(found[str(broken)]) == mode
        assert mode != pytest.approx(shipped())
        assert found[str(new)]["as_of"] == NIGHT
        assert values(found[str(seeded)]) == (0.3, 0.1, 0.1, 0.2)
        assert found[str(seeded)]["as_of"] is None
        assert found[str(others)]["as_of"] == NIGHT + dt.timedelta(days=1)
        assert found[str(others)]["attempts"] is None

        # A row that was changed by hand is no longer the night's; without rows, all have the prior.
        fetch(platform.url, "UPDATE skill_bkt_params SET p_slip = 0.3 RETURNING 1")
        assert read(platform.url)[str(thin)]["attempts"] is None
        fetch(platform.url, "TRUNCATE skill_bkt_params; SELECT 1")
        assert set(sources(platform.url).values()) == {"prior"}
        assert read(platform.url)[str(full)]["attempts"] is None
    kinds = fetch(
        platform.url,
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'skill_id'"
        " AND attrelid = 'bkt_pipeline.current_params'::regclass",
    )
    assert kinds == [(id_type,)]
    lines = [text for name, text in diagnose().lines if name == "backend"]
    assert lines == ["bkt_pipeline.current_params: 6 prior"]


def fetch(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement.encode())
        while cursor.nextset():
            pass
        return cursor.fetchall()


TARGET = (
    "CREATE TABLE skill_bkt_params (skill_id {skill} PRIMARY KEY, p_l0 {number}, p_transit {number}, p_slip {number},"
    " p_guess {number}, log_likelihood float8, calibrated_at {time});"
)
CI = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
SHAPES: dict[str, dict[str, Any]] = {
    "a domain": {"skill": "key", "before": "CREATE DOMAIN key AS text CHECK (value <> '');"},
    "citext, real numbers": {
        "skill": "citext",
        "before": "CREATE EXTENSION citext;" + TARGET.format(skill="citext", number="real", time="timestamp"),
    },
    "uuids, text in the target": {
        "skill": "uuid",
        "skills": (str(uuid.UUID(int=1)), str(uuid.UUID(int=2))),
        "before": TARGET.format(skill="text", number="numeric(9, 7)", time="timestamptz"),
    },
    "a nondeterministic collation": {"skill": "text COLLATE ci", "before": CI},
    "views": {"after": "ALTER TABLE skills RENAME TO s; CREATE VIEW skills AS SELECT * FROM s;"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_view_fits_the_platforms_types(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    try:
        create(empty_database, **SHAPES[shape])
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this server has no ICU, so no nondeterministic collation")
    monkeypatch.setenv("DATABASE_URL", empty_database)
    one, two = SHAPES[shape].get("skills", ("1", "2"))
    with open_database() as database:
        published = fit(one, 40)
        publish_night(database, published)
    found = read(empty_database)
    assert {key: row["source"] for key, row in found.items()} == {one: "calibrated", two: "prior"}
    assert values(found[one]) == pytest.approx(published.published.values)
    assert found[one]["attempts"] == 160


def test_a_skill_is_found_by_indexes_alone(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", platform.url)
    with open_database() as database:
        publish_night(database, fit(str(platform.id(1)), 40))
    with psycopg.connect(platform.url) as connection:
        connection.execute(
            """
            INSERT INTO skills (id, active) SELECT gen_random_uuid(), true FROM generate_series(1, 3000);
            INSERT INTO skill_bkt_params SELECT id, p_l0, p_transit, p_slip, p_guess, log_likelihood, stored_at
                FROM skills, bkt_pipeline.skill_fits;
            INSERT INTO bkt_pipeline.published_params SELECT id::text, as_of, 'run', attempts
                FROM skills, bkt_pipeline.skill_fits;
            CREATE TEMP TABLE fits AS SELECT f.*, s.id, d FROM bkt_pipeline.skill_fits f, skills s, generate_series(0, 1) d;
            UPDATE fits SET skill_id = id::text, night = night - d, as_of = as_of - make_interval(days => d);
            ALTER TABLE fits DROP id, DROP d;
            INSERT INTO bkt_pipeline.skill_fits SELECT * FROM fits;
            INSERT INTO bkt_pipeline.school_priors SELECT night - n, as_of, p_l0, p_transit, p_slip, p_guess, mean,
                covariance FROM bkt_pipeline.school_priors, generate_series(1, 3000) n;
            ANALYZE;
            """
        )
        (skill,) = connection.execute("SELECT id FROM skills LIMIT 1").fetchone()
        query = "SELECT source, attempts, tier FROM bkt_pipeline.current_params WHERE skill_id = %s"
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {query}", [skill]))
        found = connection.execute(query, [skill]).fetchall()
    assert "Seq Scan" not in plan, plan
    assert plan.count("Index") >= 5, plan
    assert found == [("calibrated", 160, "provisional")]


def test_the_view_follows_the_platform_and_never_stops_a_night(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A role that may not create it only warns; the next role that may creates it, with the backend's right to read."""
    monkeypatch.setenv("DATABASE_URL", platform.url)
    open_database().close()
    with psycopg.connect(platform.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE bkt_backend; CREATE ROLE guest_of_the_night LOGIN")
    try:
        fetch(
            platform.url,
            """
            ALTER TABLE skills RENAME TO old_skills;
            CREATE TABLE skills (id text PRIMARY KEY, active boolean NOT NULL);
            INSERT INTO skills VALUES ('fractions', true);
            ALTER TABLE items RENAME TO old_items; ALTER TABLE skill_bkt_params RENAME TO old_params;
            CREATE TABLE items (id uuid PRIMARY KEY, skill_id text);
            CREATE TABLE skill_bkt_params (skill_id text PRIMARY KEY, p_l0 float8, p_transit float8, p_slip float8,
                p_guess float8, log_likelihood float8, calibrated_at timestamptz);
            GRANT SELECT ON skills, items, attempts TO guest_of_the_night;
            GRANT SELECT, INSERT, UPDATE ON skill_bkt_params TO guest_of_the_night;
            GRANT USAGE ON SCHEMA bkt_pipeline TO guest_of_the_night;
            GRANT ALL ON ALL TABLES IN SCHEMA bkt_pipeline TO guest_of_the_night;
            SELECT 1
            """,
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DATABASE_URL", platform.url.replace("postgres@", "guest_of_the_night@"))
            open_database().close()
            assert (
                "current_params could not be brought up to date: permission denied for schema" in caplog.text
            )
            (line,) = [text for name, text in diagnose().lines if name == "backend"]
            assert (
                "is missing or out of date, and this role may not create it: permission denied for schema"
                in line
            )
            assert "run bkt-pipeline migrate" in line
        assert sources(platform.url) == {}
        open_database().close()
        assert sources(platform.url) == {"fractions": "default"}
        readable = "SELECT has_table_privilege('bkt_backend', 'bkt_pipeline.current_params', 'SELECT')"
        assert fetch(platform.url, readable) == [(True,)]
    finally:
        with psycopg.connect(platform.url, autocommit=True) as connection:
            for role in ("bkt_backend", "guest_of_the_night"):
                connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())
