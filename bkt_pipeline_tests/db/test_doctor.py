"""What doctor reports, and that it changes nothing; what would stop a night gives its exit code."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from bkt_pipeline.db.database import open_database
from bkt_pipeline.db.doctor import CAN_RUN, UNUSABLE, WOULD_FAIL, Diagnosis, diagnose
from bkt_pipeline.settings import settings
from bkt_pipeline_tests.helpers.sources import create

Ask = Callable[..., Diagnosis]
# Answers of today, on a table of each kind.
RECENT = "UPDATE attempts SET created_at = created_at + (now() - timestamptz '2025-12-22');"
TABLES = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'i', 'v') AND relnamespace <> 'pg_catalog'::regnamespace"


@pytest.fixture
def ask(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Creates the tables, changed as given, and asks doctor about them."""

    def run(change: str = "", *, recent: bool = True, **columns: str) -> Diagnosis:
        create(empty_database, after=(RECENT if recent else "") + change, **columns)
        monkeypatch.setenv("DATABASE_URL", empty_database)
        return diagnose()

    return run


def lines(found: Diagnosis, name: str) -> list[str]:
    return [text for label, text in found.lines if label == name]


def statements(found: Diagnosis) -> list[str]:
    return [text for text in lines(found, "") if text.startswith(("CREATE", "--"))]


def test_a_sound_database_is_reported_and_left_as_it_is(ask: Ask, empty_database: str) -> None:
    found = ask()
    assert found.exit_code == CAN_RUN
    assert not lines(found, "fails")
    assert any("60 in the last 30 days" in text for text in lines(found, "attempts"))
    with psycopg.connect(empty_database) as connection:
        (before,) = connection.execute(TABLES).fetchone()
    open_database().close()
    again = diagnose()
    assert again.exit_code == CAN_RUN
    assert "skill_bkt_params: there (table)" in lines(again, "table")
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT count(*) FROM skill_bkt_params").fetchone() == (0,)
        (after,) = connection.execute(TABLES).fetchone()
        connection.execute("ALTER TABLE bkt_pipeline.skill_fits DROP COLUMN p_l0 CASCADE")
    assert after > before, "only the opening creates something"
    damaged = diagnose()
    assert damaged.exit_code == WOULD_FAIL
    assert any("is not as a migration left it" in text for text in lines(damaged, "fails"))


SHAPES = {
    "tables": ("DROP INDEX attempts_item_id_created_at_idx, items_skill_id_idx;", 2),
    "indexed tables": ("", 0),
    "partitioned": (
        "ALTER TABLE attempts RENAME TO a; CREATE TABLE attempts (LIKE a, PRIMARY KEY (id, created_at))"
        " PARTITION BY RANGE (created_at); CREATE TABLE all_of_it PARTITION OF attempts DEFAULT;",
        1,
    ),
    "materialised view": (
        "ALTER TABLE attempts RENAME TO a; CREATE MATERIALIZED VIEW attempts AS SELECT * FROM a;",
        1,
    ),
    "view": ("ALTER TABLE attempts RENAME TO a; CREATE VIEW attempts AS SELECT * FROM a;", 1),
    "foreign table": (
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; DROP TABLE attempts;"
        "CREATE FOREIGN TABLE attempts (id bigint, student_id text, item_id text, is_correct boolean,"
        " created_at timestamptz) SERVER files OPTIONS (filename '/dev/null', format 'csv');",
        0,
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_statement_for_an_index_runs_on_this_database(
    ask: Ask, empty_database: str, shape: str
) -> None:
    change, count = SHAPES[shape]
    printed = statements(ask(change))
    assert len(printed) == count
    with psycopg.connect(empty_database, autocommit=True) as connection:
        for statement in printed:
            connection.execute(statement.encode())
    remaining = statements(diagnose())
    assert remaining == ([printed[0]] if shape == "view" else [])
    if shape == "view":
        assert "a view of a:" in printed[0]


def test_views_adapt_a_platform_with_other_names(
    ask: Ask, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ask(
        "ALTER TABLE skills RENAME TO topics; ALTER TABLE items RENAME TO questions; ALTER TABLE attempts RENAME TO a;"
        "ALTER TABLE a ALTER is_correct TYPE int USING is_correct::int;"
    )
    assert found.exit_code == UNUSABLE
    printed = "\n".join(statements(found))
    assert printed.count("CREATE VIEW") == 3
    for capitals, name in (
        ("NOT YOUR_RETIRED", "active"), ("YOUR_SKILLS", "topics"), ("YOUR_ITEMS", "questions"), ("YOUR_ANSWERS", "a"),
        ("YOUR_SKILL_ID", "skill_id"), ("YOUR_USER_ID", "student_id"), ("YOUR_QUESTION_ID", "item_id"),
        ("YOUR_SCORE", "is_correct"), ("YOUR_TIME", "created_at"), ("YOUR_ID", "id"),
    ):  # fmt: skip
        printed = printed.replace(capitals, name)
    with psycopg.connect(empty_database) as connection:
        connection.execute(printed.encode())
    assert diagnose().exit_code == CAN_RUN


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE attempts RENAME is_correct TO score; ALTER TABLE attempts ALTER score TYPE int USING 1;",
        "DROP TABLE items, skills CASCADE; CREATE TYPE kind AS ENUM ('adding');"
        "CREATE TABLE skills (id kind PRIMARY KEY, active boolean); INSERT INTO skills VALUES ('adding', true);"
        "CREATE TABLE items (id text PRIMARY KEY, skill_id kind);",
    ],
    ids=["another name", "enum ids"],
)
def test_adapting_views_avoid_existing_table_names(
    ask: Ask, empty_database: str, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    found = ask(sql)
    assert found.exit_code == UNUSABLE
    with psycopg.connect(empty_database) as connection:
        connection.execute("\n".join(statements(found)).replace("YOUR_SCORE", "score").encode())
    monkeypatch.setenv("BKT_SOURCE_SCHEMA", "bkt_source")
    assert diagnose().exit_code == CAN_RUN
    with open_database() as database:
        assert database.platform.attempts.schema == "bkt_source"


def test_an_old_newest_answer_comes_with_the_as_of_that_finds_it(ask: Ask) -> None:
    found = ask("UPDATE attempts SET created_at = '2012-03-20 12:00Z';", recent=False)
    assert found.exit_code == CAN_RUN
    assert any("bkt-pipeline nightly --as-of 2012-03-21" in text for text in lines(found, ""))


def test_what_is_left_out_and_unordered_is_counted(ask: Ask) -> None:
    found = ask(
        "DELETE FROM items WHERE id = '0'; UPDATE attempts SET created_at = date_trunc('day', created_at);"
        "UPDATE attempts SET student_id = NULL WHERE student_id = '1' AND item_id = '5';",
        key="uuid DEFAULT gen_random_uuid() PRIMARY KEY",
    )
    assert found.exit_code == CAN_RUN
    assert any(
        text.startswith("12 attempts of the window: items has no row") for text in lines(found, "left out")
    )
    assert any("1 attempts of the window: they have no student" in text for text in lines(found, "left out"))
    assert any("the id of attempts has no order" in text for text in lines(found, "order"))
    assert any("add a column attempt_order" in text for text in lines(found, "order"))


TARGET = (
    "CREATE TABLE skill_bkt_params (skill_id text PRIMARY KEY, p_l0 float8, p_transit float8, p_slip float8,"
    " p_guess float8, log_likelihood float8, calibrated_at timestamptz);"
)
STOPS = {
    "a target without a unique index": (
        TARGET.replace(" PRIMARY KEY", ""),
        UNUSABLE,
        "no unique index on skill_id",
    ),
    "a target that refuses rows": (
        TARGET + "ALTER TABLE skill_bkt_params ADD CHECK (log_likelihood > 0);",
        WOULD_FAIL,
        "violates check constraint",
    ),
    "a target that drops rows": (
        TARGET + "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER swallow BEFORE INSERT ON skill_bkt_params FOR EACH ROW EXECUTE FUNCTION swallow();",
        WOULD_FAIL,
        "kept only 0 of 1 rows",
    ),
    "odd grades": (
        "ALTER TABLE attempts ALTER is_correct TYPE int USING is_correct::int + 1",
        WOULD_FAIL,
        "have an is_correct other than 0 and 1",
    ),
    "a trigger that changes rows": (
        TARGET
        + "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.p_slip := 0.5; RETURN NEW; END';"
        "CREATE TRIGGER change BEFORE INSERT ON skill_bkt_params FOR EACH ROW EXECUTE FUNCTION change();",
        WOULD_FAIL,
        "holds p_slip 0.5 after",
    ),
    "a trigger that discards changes of items": (
        "ALTER TABLE items ADD irt_a real, ADD irt_b real, ADD irt_calibrated_at timestamptz;"
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER keep BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION keep();",
        WOULD_FAIL,
        "items holds irt_a None after 0.25 was written",
    ),
    "a target that refuses one skill": (
        TARGET + "ALTER TABLE skill_bkt_params ADD CHECK (skill_id <> '2');",
        WOULD_FAIL,
        "(1 of 2 skills)",
    ),
    "an id that Dagster refuses": (
        "INSERT INTO skills VALUES (E'two\\nlines', true);",
        WOULD_FAIL,
        "skill two\\nlines: Dagster refuses",
    ),
    "no active skill": ("UPDATE skills SET active = false;", WOULD_FAIL, "no skill is active"),
    "a view that raises": (
        "ALTER TABLE attempts RENAME TO a; CREATE VIEW attempts AS SELECT id, student_id, item_id, is_correct,"
        " created_at + (1 / (id - 1)) * interval '0 s' AS created_at FROM a;",
        WOULD_FAIL,
        "a table cannot be read: division by zero",
    ),
}


@pytest.mark.parametrize("case", STOPS)
def test_what_would_stop_a_night_is_found(ask: Ask, case: str) -> None:
    change, exit_code, message = STOPS[case]
    found = ask(change)
    assert found.exit_code == exit_code
    assert any(message in text for text in lines(found, "fails")), found.lines


def test_settings_that_contradict_each_other_are_found(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BKT_MIN_ATTEMPTS", "0")
    found = ask()
    assert found.exit_code == WOULD_FAIL
    assert any("only pooled has an estimate" in text for text in lines(found, "fails"))


def test_a_read_only_session_is_found(ask: Ask, empty_database: str) -> None:
    assert ask().exit_code == CAN_RUN
    with psycopg.connect(empty_database, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    found = diagnose()
    assert found.exit_code == WOULD_FAIL
    assert any("default_transaction_read_only" in text for text in lines(found, "fails"))


def test_a_role_without_rights_gets_the_grants_to_issue(
    ask: Ask, empty_database: str, server_url: str
) -> None:
    assert ask().exit_code == CAN_RUN
    with psycopg.connect(server_url, autocommit=True) as superuser:
        superuser.execute("CREATE ROLE doctors_patient LOGIN")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OWNER", empty_database)
            patch.setenv("DATABASE_URL", empty_database.replace("postgres@", "doctors_patient@"))
            found = diagnose()
            assert found.exit_code == WOULD_FAIL
            assert any("GRANT SELECT ON skills TO doctors_patient;" in text for text in lines(found, "fails"))
            with psycopg.connect(empty_database) as owner:
                owner.execute("GRANT SELECT ON skills, items, attempts TO doctors_patient")
            found = diagnose()
            assert found.exit_code == WOULD_FAIL
            assert len([text for text in lines(found, "fails") if "run bkt-pipeline migrate" in text]) == 2
            with open_database("OWNER"), psycopg.connect(empty_database) as owner:
                owner.execute("GRANT SELECT, INSERT, UPDATE ON skill_bkt_params TO doctors_patient")
            found = diagnose()
            (refused,) = lines(found, "fails")
            assert refused.startswith(
                "permission denied for schema bkt_pipeline (SQLSTATE 42501); run bkt-pipeline"
            )
    finally:
        with psycopg.connect(empty_database, autocommit=True) as owner:
            owner.execute("DROP OWNED BY doctors_patient")
            owner.execute("DROP ROLE doctors_patient")


def test_a_missing_demo_database_is_not_a_failure(own_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BKT_PIPELINE_HOME", str(own_server))
    monkeypatch.setenv("BKT_DEMO", "1")
    found = diagnose()
    assert found.exit_code == CAN_RUN
    assert lines(found, "tables") == ["not there yet; the first night or load creates them"]


def test_returning_students_are_reported_as_a_share(ask: Ask) -> None:
    found = ask()
    assert [text[:26] for text in lines(found, "returning")] == ["0% of the window's student"]
    with psycopg.connect(settings().database_url.get_secret_value()) as connection:
        connection.execute(
            "INSERT INTO attempts (student_id, item_id, is_correct, created_at) "
            "SELECT student_id, item_id, is_correct, created_at - interval '60 days' FROM attempts "
            "WHERE student_id IN ('1', '2', '3')"
        )
    assert [text[:27] for text in lines(diagnose(), "returning")] == ["50% of the window's student"]
