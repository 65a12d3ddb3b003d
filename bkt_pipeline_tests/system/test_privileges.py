"""A night as the role of deploy/grants.sql: the role can do what it needs, and Postgres refuses the rest."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from alembic import command
from psycopg.errors import InsufficientPrivilege

from bkt_pipeline.cli.main import main
from bkt_pipeline.db.connection import make_engine, transaction
from bkt_pipeline.db.migrations import config
from bkt_pipeline.db.platform import reflect
from bkt_pipeline_tests.conftest import PROJECT, Platform, database_of
from bkt_pipeline_tests.helpers.nights import Night
from bkt_pipeline_tests.helpers.schools import enrol
from bkt_pipeline_tests.helpers.state import snapshot

MakeNight = Callable[[Platform], Night]
OWNER, NIGHTLY, BACKEND = "platform_owner", "bkt_nightly", "bkt_backend"

# Makes every DDL statement fail, even for a temporary table.
NO_DDL = """
    CREATE FUNCTION refuse_ddl() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'a night has issued %', tg_tag; END $$;
    CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION refuse_ddl();
"""


@pytest.fixture
def roles(server_url: str) -> Iterator[None]:
    """The platform's owner, which is not a superuser. Roles are dropped after the databases in which they have rights."""
    with psycopg.connect(server_url, autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {OWNER} LOGIN CREATEROLE")
        yield
        superuser.execute(f"DROP ROLE IF EXISTS {OWNER}, {NIGHTLY}, {BACKEND}")


@pytest.fixture
def owned(roles: None, platform: Platform) -> Platform:
    """A platform with students, whose tables all belong to its owner."""
    enrol(platform, [20, 20, 3])
    with psycopg.connect(platform.url) as superuser:
        superuser.execute("CREATE TABLE students (id uuid PRIMARY KEY, name text)")
        for table in ("skills", "items", "attempts", "students"):
            superuser.execute(f"ALTER TABLE {table} OWNER TO {OWNER}")
    give_database(platform.url)
    return platform


def give_database(url: str) -> None:
    """Make the platform's owner the owner of the database; a copy belongs to the role that creates it."""
    with psycopg.connect(url) as superuser:
        superuser.execute(f'ALTER DATABASE "{database_of(url)}" OWNER TO {OWNER}')


@pytest.fixture
def granted(owned: Platform) -> Platform:
    """A platform after the two commands at the head of deploy/grants.sql."""
    migrate_by_command(as_role(owned.url, OWNER))
    grant(as_role(owned.url, OWNER))
    return owned


def grant(url: str) -> None:
    with psycopg.connect(url) as connection:
        lines = (PROJECT / "deploy/grants.sql").read_text().splitlines()
        # Commands of psql itself.
        connection.execute("\n".join(line for line in lines if not line.startswith("\\")))


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


REFUSED = (
    "INSERT INTO attempts SELECT * FROM attempts",
    "UPDATE attempts SET is_correct = true",
    "DELETE FROM attempts",
    "TRUNCATE attempts",
    "UPDATE skills SET active = false",
    "UPDATE items SET skill_id = skill_id",
    "DELETE FROM items",
    "SELECT FROM students",
    "COPY students TO STDOUT",
    "DELETE FROM skill_bkt_params",
    "TRUNCATE skill_bkt_params",
    "ALTER TABLE skill_bkt_params ADD COLUMN more text",
    "ALTER TABLE skill_bkt_params ALTER p_slip TYPE real",
    "ALTER TABLE bkt_pipeline.skill_fits DROP COLUMN p_slip",
    "ALTER TABLE bkt_pipeline.skill_fits OWNER TO bkt_nightly",
    "ALTER TABLE bkt_pipeline.alembic_version ADD COLUMN more text",
    "CREATE INDEX ON bkt_pipeline.skill_fits (night)",
    "INSERT INTO students VALUES (gen_random_uuid(), 'Ada')",
    "DROP TABLE students",
    "DROP TABLE skill_bkt_params",
    "DROP TABLE attempts",
    "DROP TABLE items CASCADE",
    "DROP TABLE skills CASCADE",
    "DROP SCHEMA public CASCADE",
    "UPDATE bkt_pipeline.alembic_version SET version_num = '0'",
    "CREATE TABLE public.more ()",
    "CREATE SCHEMA more",
    "CREATE INDEX ON attempts (student_id)",
    "COPY attempts TO PROGRAM 'cat'",
    "ALTER ROLE bkt_nightly SUPERUSER",
    "SET ROLE platform_owner",
)


def test_postgres_refuses_everything_else(granted: Platform) -> None:
    with psycopg.connect(as_role(granted.url, NIGHTLY), autocommit=True) as role:
        for statement in REFUSED:
            try:
                role.execute(statement)
            except InsufficientPrivilege:
                continue
            pytest.fail(f"the role may {statement}")


def test_the_backend_reads_parameters_and_computes_updates_and_nothing_else(granted: Platform) -> None:
    with psycopg.connect(granted.url, autocommit=True) as superuser:
        superuser.execute(f"ALTER ROLE {BACKEND} LOGIN")
        # As on a platform where tenants must not see each other's skills.
        superuser.execute("ALTER TABLE skills ENABLE ROW LEVEL SECURITY")
    with psycopg.connect(as_role(granted.url, BACKEND), autocommit=True) as backend:
        rows = backend.execute(
            "SELECT source, bkt_pipeline.bkt_update(NULL, true, p_l0, p_transit, p_slip, p_guess)"
            " FROM bkt_pipeline.current_params"
        ).fetchall()
        assert [source for source, _ in rows] == ["default"] * 3
        for table in (
            "skills",
            "attempts",
            "skill_bkt_params",
            "bkt_pipeline.skill_fits",
            "bkt_pipeline.attempt_window",
        ):
            with pytest.raises(InsufficientPrivilege):
                backend.execute(f"SELECT FROM {table}".encode())
        with pytest.raises(psycopg.Error):
            backend.execute("DELETE FROM bkt_pipeline.current_params")


def test_the_items_columns_can_be_granted(granted: Platform) -> None:
    with psycopg.connect(granted.url) as superuser:
        superuser.execute(
            "ALTER TABLE items ADD irt_a real, ADD irt_b real, ADD irt_calibrated_at timestamptz"
        )
    (wanted,) = [
        line.removeprefix("-- ")
        for line in (PROJECT / "deploy/grants.sql").read_text().splitlines()
        if line.startswith("-- GRANT")
    ]
    with psycopg.connect(as_role(granted.url, OWNER)) as owner:
        owner.execute(wanted)
    with psycopg.connect(as_role(granted.url, NIGHTLY)) as role:
        role.execute("UPDATE items SET irt_a = 1, irt_b = 0, irt_calibrated_at = now()")
        with pytest.raises(InsufficientPrivilege):
            role.execute("UPDATE items SET irt_a = 1, skill_id = skill_id")


@pytest.mark.parametrize("way", ["by the owner", "by a superuser", "to a role made beforehand"])
def test_the_owner_can_still_migrate_a_schema_that_the_role_owns(
    owned: Platform, make_night: MakeNight, way: str
) -> None:
    """The schema has an older version when the grants are made; later migrations need no further grants."""
    by = OWNER
    with psycopg.connect(owned.url) as superuser:
        if way == "by a superuser":
            by = "postgres"
        if way == "to a role made beforehand":
            superuser.execute(f"CREATE ROLE {NIGHTLY} LOGIN")
            superuser.execute(f"GRANT {NIGHTLY} TO {OWNER}; CREATE ROLE {BACKEND}")
        if way != "by the owner":
            superuser.execute(f"ALTER ROLE {OWNER} NOCREATEROLE")
    made_by_an_older_version(as_role(owned.url, OWNER))
    grant(as_role(owned.url, by))
    night = make_night(owned)
    night.environment["DATABASE_URL"] = as_role(night.url, NIGHTLY)
    code, output = night.ends(night.start())
    assert code == 2
    (line,) = output.splitlines()
    assert "run bkt-pipeline migrate" in line

    for _ in range(2):
        migrate_by_command(as_role(night.url, OWNER))
    after_the_migration = rights(night.url)
    for _ in range(2):
        grant(as_role(night.url, by))
    assert rights(night.url) == after_the_migration
    with psycopg.connect(night.url) as superuser:
        assert superuser.execute(
            "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'bkt_pipeline'"
        ).fetchone() == (NIGHTLY,)
        assert superuser.execute(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'bkt_pipeline')"
        ).fetchall() == [(OWNER,)]
        superuser.execute(NO_DDL)
    code, output = night.ends(night.start())
    assert code == 0, output


def made_by_an_older_version(url: str) -> None:
    engine = make_engine(url)
    with transaction(engine) as connection:
        connection.exec_driver_sql("CREATE SCHEMA bkt_pipeline")
        command.upgrade(config(connection), "0002")
        reflect(connection)
    engine.dispose()


def rights(url: str) -> list[tuple[str, ...]]:
    """Each role's rights on each table and on the schema."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            """
            SELECT relname, a.grantee::regrole::text, a.privilege_type
            FROM pg_class, aclexplode(relacl) a
            WHERE relnamespace IN ('public'::regnamespace, 'bkt_pipeline'::regnamespace)
            UNION ALL
            SELECT 'the schema', a.grantee::regrole::text, a.privilege_type
            FROM pg_namespace, aclexplode(nspacl) a
            WHERE nspname = 'bkt_pipeline'
            ORDER BY 1, 2, 3
            """
        ).fetchall()


def test_tables_that_the_role_dropped_are_created_again(granted: Platform, make_night: MakeNight) -> None:
    night = make_night(granted)
    give_database(night.url)
    night.environment["DATABASE_URL"] = as_role(night.url, NIGHTLY)
    assert night.ends(night.start())[0] == 0
    before = snapshot(night.url)
    with psycopg.connect(as_role(night.url, NIGHTLY)) as role:
        role.execute("DROP TABLE bkt_pipeline.skill_fits CASCADE")
        role.execute("DROP SCHEMA bkt_pipeline CASCADE")
    migrate_by_command(as_role(night.url, OWNER))
    grant(as_role(night.url, OWNER))
    code, output = night.ends(night.start())
    assert code == 0, output
    assert snapshot(night.url) == before


def test_a_role_that_may_not_migrate_gets_an_error_naming_the_command_and_the_owner(
    granted: Platform, make_night: MakeNight
) -> None:
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


def test_a_database_of_a_newer_version_is_not_changed(granted: Platform, make_night: MakeNight) -> None:
    night = make_night(granted)
    with psycopg.connect(night.url) as owner:
        owner.execute("UPDATE bkt_pipeline.alembic_version SET version_num = '9999'")
    code, output = night.ends(night.start())
    assert code == 2
    (line,) = output.splitlines()
    assert "9999, which this version of bkt_pipeline does not know" in line
