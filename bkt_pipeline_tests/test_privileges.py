"""A night as the role of deploy/grants.sql: it can do all that it must, and Postgres refuses the rest."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from bkt_pipeline.cli import main
from bkt_pipeline_tests.conftest import PROJECT, Platform
from bkt_pipeline_tests.nights import Night
from bkt_pipeline_tests.state import snapshot
from bkt_pipeline_tests.test_night import enrol

MakeNight = Callable[[Platform], Night]
NIGHTLY = "bkt_nightly"

# Any DDL, a temporary table even, fails the statement.
NO_DDL = """
    CREATE FUNCTION refuse_ddl() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'a night has issued %', tg_tag; END $$;
    CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION refuse_ddl();
"""


@pytest.fixture
def platform_with_students(platform: Platform) -> Platform:
    with psycopg.connect(platform.url) as owner:
        owner.execute("CREATE TABLE students (id uuid PRIMARY KEY, name text)")
    enrol(platform, [20, 20, 3])
    return platform


@pytest.fixture
def granted(platform_with_students: Platform) -> Iterator[Platform]:
    """Migrated and granted, as the file's head says it."""
    migrate_by_command(platform_with_students.url)
    with psycopg.connect(platform_with_students.url) as owner:
        owner.execute((PROJECT / "deploy/grants.sql").read_text())
    yield platform_with_students
    with psycopg.connect(platform_with_students.url) as owner:
        owner.execute(f"DROP OWNED BY {NIGHTLY}")
        owner.execute(f"DROP ROLE {NIGHTLY}")


def migrate_by_command(url: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        assert main(["migrate"]) == 0


def as_role(url: str, role: str) -> str:
    return url.replace("postgres@", f"{role}@")


def test_the_role_runs_a_whole_night_without_any_ddl(granted: Platform, make_night: MakeNight) -> None:
    calm, night = make_night(granted), make_night(granted)
    calm.undisturbed()
    with psycopg.connect(night.url) as owner:
        owner.execute(NO_DDL)
    night.environment["DATABASE_URL"] = as_role(night.url, NIGHTLY)
    for _ in range(2):
        code, output = night.ends(night.start())
        assert code == 0, output
    assert snapshot(night.url) == snapshot(calm.url)
    with (
        psycopg.connect(night.url) as owner,
        pytest.raises(psycopg.errors.RaiseException, match="CREATE TABLE"),
    ):
        owner.execute("CREATE TEMP TABLE seen ()")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO attempts SELECT * FROM attempts",
        "UPDATE attempts SET is_correct = true",
        "DELETE FROM attempts",
        "TRUNCATE attempts",
        "UPDATE skills SET active = false",
        "DELETE FROM items",
        "SELECT FROM students",
        "COPY students TO STDOUT",
        "DELETE FROM skill_bkt_params",
        "TRUNCATE skill_bkt_params",
        "ALTER TABLE skill_bkt_params ADD COLUMN more text",
        "ALTER TABLE skill_bkt_params ALTER p_slip TYPE real",
        "ALTER TABLE bkt_pipeline.skill_fits DROP COLUMN p_slip",
        "INSERT INTO students VALUES (gen_random_uuid(), 'Ada')",
        "DROP TABLE students",
        "DROP TABLE skill_bkt_params",
        "DROP TABLE attempts",
        "DROP TABLE bkt_pipeline.skill_fits",
        "DROP SCHEMA bkt_pipeline CASCADE",
        "UPDATE bkt_pipeline.alembic_version SET version_num = '0'",
        "CREATE TABLE bkt_pipeline.more ()",
        "CREATE TABLE public.more ()",
        "CREATE SCHEMA more",
        "CREATE INDEX ON attempts (student_id)",
        "COPY attempts TO PROGRAM 'cat'",
        "ALTER ROLE bkt_nightly SUPERUSER",
    ],
)
def test_postgres_refuses_everything_else(granted: Platform, statement: str) -> None:
    with (
        psycopg.connect(as_role(granted.url, NIGHTLY)) as role,
        pytest.raises(InsufficientPrivilege),
    ):
        role.execute(statement)


def test_what_a_later_migration_makes_is_granted_too(granted: Platform) -> None:
    with psycopg.connect(granted.url) as owner:
        owner.execute("CREATE TABLE bkt_pipeline.later (n int)")
    with psycopg.connect(as_role(granted.url, NIGHTLY)) as role:
        role.execute("INSERT INTO bkt_pipeline.later VALUES (1)")


def test_a_role_that_may_not_migrate_is_told_who_can(granted: Platform, make_night: MakeNight) -> None:
    night = make_night(granted)
    with psycopg.connect(night.url) as owner:
        owner.execute("DROP SCHEMA bkt_pipeline CASCADE")
    night.environment["DATABASE_URL"] = as_role(night.url, NIGHTLY)
    code, output = night.ends(night.start())
    assert code == 2
    (line,) = output.splitlines()
    assert line.startswith("bkt-pipeline nightly: the schema bkt_pipeline ")
    assert "permission denied" in line
    assert "run bkt-pipeline migrate" in line


def test_a_database_of_a_newer_version_is_left_alone(granted: Platform, make_night: MakeNight) -> None:
    night = make_night(granted)
    with psycopg.connect(night.url) as owner:
        owner.execute("UPDATE bkt_pipeline.alembic_version SET version_num = '9999'")
    code, output = night.ends(night.start())
    assert code == 2
    (line,) = output.splitlines()
    assert "9999, which this version of bkt_pipeline does not know" in line


def test_the_tables_owner_migrates_without_being_superuser(platform: Platform, server_url: str) -> None:
    with psycopg.connect(platform.url) as superuser:
        superuser.execute("CREATE ROLE platform_owner LOGIN")
        superuser.execute(
            f'ALTER DATABASE "{platform.url.split("?")[0].rpartition("/")[2]}" OWNER TO platform_owner'
        )
        for table in ("skills", "items", "attempts"):
            superuser.execute(f"ALTER TABLE {table} OWNER TO platform_owner")
    migrate_by_command(as_role(platform.url, "platform_owner"))
    with psycopg.connect(platform.url) as superuser:
        owners = superuser.execute(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'bkt_pipeline')"
        ).fetchall()
        assert owners == [("platform_owner",)]
        superuser.execute("REASSIGN OWNED BY platform_owner TO postgres")
        superuser.execute("DROP OWNED BY platform_owner")
        superuser.execute("DROP ROLE platform_owner")
