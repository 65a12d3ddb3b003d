"""A permission is not an absence: what the role may not read or write is an error that names the grant."""

# ruff: noqa: S608  (the statements are put together from the constants of this module)

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import text

from bkt_pipeline.db.attempts import read_windows
from bkt_pipeline.db.database import open_database
from bkt_pipeline.db.migrations import current
from bkt_pipeline.db.platform import reflect, reflect_source
from bkt_pipeline.errors import DatabaseError, PermissionMissing, SourceSchemaError
from bkt_pipeline_tests.helpers.sources import AS_OF, connected, create

ROLE = "weak_nightly"
TARGET = (
    "CREATE TABLE skill_bkt_params (skill_id text PRIMARY KEY, p_l0 float8, p_transit float8, p_slip float8,"
    " p_guess float8, log_likelihood float8, calibrated_at timestamptz);"
)
READS = f"GRANT SELECT ON skills, items, attempts TO {ROLE};"
WRITES = f"GRANT SELECT, INSERT, UPDATE ON skill_bkt_params TO {ROLE};"


@pytest.fixture
def role(server_url: str, empty_database: str) -> Iterator[str]:
    """The URL of a role without rights; the role goes after its rights do."""
    with psycopg.connect(server_url, autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {ROLE} LOGIN")
        yield empty_database.replace("postgres@", f"{ROLE}@")
    with psycopg.connect(empty_database, autocommit=True) as owner:
        owner.execute(f"DROP OWNED BY {ROLE}")
        owner.execute(f"DROP ROLE {ROLE}")


REFUSED = {
    "nothing granted": ("", "may not read skills; issue: GRANT SELECT ON skills TO weak_nightly;"),
    "one table missing": (
        f"GRANT SELECT ON skills, items TO {ROLE};",
        "may not read attempts; issue: GRANT SELECT ON attempts TO weak_nightly;",
    ),
    "one column missing": (
        f"GRANT SELECT ON skills, items TO {ROLE};"
        f"GRANT SELECT (id, item_id, is_correct, created_at) ON attempts TO {ROLE};",
        r"may not read attempts \(student_id\); issue: GRANT SELECT \(student_id\) ON attempts TO weak_nightly;",
    ),
    "row-level security": (
        READS + "ALTER TABLE attempts ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON attempts USING (true);",
        "row-level security hides rows of attempts from the role weak_nightly",
    ),
    "row-level security behind a view": (
        "ALTER TABLE attempts RENAME TO a; ALTER TABLE a ENABLE ROW LEVEL SECURITY;"
        "CREATE VIEW attempts WITH (security_invoker) AS SELECT * FROM a;"
        f"GRANT SELECT ON a TO {ROLE};" + READS,
        "row-level security hides rows of attempts",
    ),
    "a view that may not be read through": (
        "ALTER TABLE attempts RENAME TO a; CREATE VIEW attempts WITH (security_invoker) AS SELECT * FROM a;"
        + READS,
        "may not read attempts: permission denied for table a",
    ),
    "a schema that may not be used": (
        READS + f"REVOKE USAGE ON SCHEMA public FROM public; REVOKE ALL ON SCHEMA public FROM {ROLE};",
        f"the role {ROLE} may not use the schema public; issue: GRANT USAGE ON SCHEMA public TO {ROLE};",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_may_not_be_read_is_an_error_with_the_grant(empty_database: str, role: str, case: str) -> None:
    change, message = REFUSED[case]
    create(empty_database, after=change)
    with connected(role) as connection, pytest.raises(DatabaseError, match=message):
        reflect_source(connection)


def test_the_owners_view_is_the_way_through_row_level_security(empty_database: str, role: str) -> None:
    create(
        empty_database,
        after="ALTER TABLE attempts ENABLE ROW LEVEL SECURITY; CREATE SCHEMA bkt_source;"
        "CREATE VIEW bkt_source.skills AS SELECT * FROM skills; CREATE VIEW bkt_source.items AS SELECT * FROM items;"
        "CREATE VIEW bkt_source.attempts AS SELECT * FROM attempts;"
        f"GRANT USAGE ON SCHEMA bkt_source TO {ROLE}; GRANT SELECT ON ALL TABLES IN SCHEMA bkt_source TO {ROLE};",
    )
    with connected(role) as connection:
        source = reflect_source(connection, "bkt_source")
        assert read_windows(connection, source, ["1"], AS_OF, 30)["1"].n_attempts == 30


def test_a_policy_that_comes_later_never_hides_rows(empty_database: str, role: str) -> None:
    create(empty_database, after=READS)
    with connected(role) as connection:
        source = reflect_source(connection)
    with psycopg.connect(empty_database) as owner:
        owner.execute("ALTER TABLE attempts ENABLE ROW LEVEL SECURITY")
    with connected(role) as connection, pytest.raises(Exception, match="row-level security"):
        read_windows(connection, source, ["1"], AS_OF, 30)


UNUSABLE_TARGETS: dict[str, tuple[str, type[DatabaseError], str]] = {
    "no unique index": (
        TARGET.replace(" PRIMARY KEY", "") + WRITES,
        SourceSchemaError,
        r"has no unique index on skill_id alone, .* issue: CREATE UNIQUE INDEX ON skill_bkt_params \(skill_id\);",
    ),
    "history table": (
        TARGET.replace(" PRIMARY KEY", "")
        + "ALTER TABLE skill_bkt_params ADD PRIMARY KEY (skill_id, calibrated_at);"
        + WRITES,
        SourceSchemaError,
        "has no unique index on skill_id alone",
    ),
    "partial index": (
        TARGET.replace(" PRIMARY KEY", "")
        + "CREATE UNIQUE INDEX ON skill_bkt_params (skill_id) WHERE p_l0 > 0;"
        + WRITES,
        SourceSchemaError,
        "has no unique index on skill_id alone",
    ),
    "missing column": (
        TARGET + "ALTER TABLE skill_bkt_params DROP p_slip;" + WRITES,
        SourceSchemaError,
        "has no column p_slip; add it",
    ),
    "required column of theirs": (
        TARGET + "ALTER TABLE skill_bkt_params ADD tenant text NOT NULL;" + WRITES,
        SourceSchemaError,
        "requires a value in its column tenant",
    ),
    "generated column": (
        TARGET.replace("p_slip float8", "p_slip float8 GENERATED ALWAYS AS (0.1) STORED") + WRITES,
        SourceSchemaError,
        "generates its column p_slip",
    ),
    "another type of id": (
        TARGET.replace("skill_id text", "skill_id uuid") + WRITES,
        SourceSchemaError,
        "skill_bkt_params.skill_id is uuid and skills.id is text",
    ),
    "a view that cannot be written": (
        TARGET.replace("TABLE skill_bkt_params", "TABLE p")
        + "CREATE VIEW skill_bkt_params AS SELECT DISTINCT * FROM p;"
        + WRITES,
        SourceSchemaError,
        "view skill_bkt_params does not take the rows of a night",
    ),
    "no right to insert": (
        TARGET + f"GRANT SELECT, UPDATE ON skill_bkt_params TO {ROLE};",
        PermissionMissing,
        "GRANT SELECT, INSERT, UPDATE ON skill_bkt_params TO weak_nightly;",
    ),
    "row-level security": (
        TARGET + "ALTER TABLE skill_bkt_params ENABLE ROW LEVEL SECURITY;" + WRITES,
        PermissionMissing,
        "row-level security hides rows of skill_bkt_params",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE_TARGETS)
def test_an_unusable_target_is_named(empty_database: str, role: str, case: str) -> None:
    change, error, message = UNUSABLE_TARGETS[case]
    create(empty_database, after=READS + change)
    with connected(role) as connection, pytest.raises(error, match=message):
        reflect(connection)


USABLE_TARGETS = {
    "unique index": TARGET.replace(" PRIMARY KEY", "")
    + "CREATE UNIQUE INDEX ON skill_bkt_params (skill_id);",
    "varchar and defaults of theirs": TARGET.replace("skill_id text", "skill_id varchar(40)")
    + "ALTER TABLE skill_bkt_params ADD tenant text NOT NULL DEFAULT 'a', ADD n bigint GENERATED ALWAYS AS IDENTITY;",
    "simple view": TARGET.replace("TABLE skill_bkt_params", "TABLE p")
    + "CREATE VIEW skill_bkt_params AS SELECT * FROM p;",
    "partitioned": TARGET.replace("timestamptz)", "timestamptz) PARTITION BY HASH (skill_id)")
    + "CREATE TABLE all_of_it PARTITION OF skill_bkt_params FOR VALUES WITH (MODULUS 1, REMAINDER 0);",
}


@pytest.mark.parametrize("case", USABLE_TARGETS)
def test_other_targets_are_taken(empty_database: str, role: str, case: str) -> None:
    create(empty_database, after=READS + USABLE_TARGETS[case] + WRITES)
    with connected(role) as connection:
        assert reflect(connection).target.name == "skill_bkt_params"
        assert connection.execute(text("SELECT count(*) FROM skill_bkt_params")).scalar() == 0


def test_nothing_of_ours_is_created_where_the_tables_cannot_be_used(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(empty_database, after="ALTER TABLE attempts DROP student_id")
    monkeypatch.setenv("DATABASE_URL", empty_database)
    with pytest.raises(SourceSchemaError):
        open_database()
    with connected(empty_database) as connection:
        assert current(connection) is None
        assert connection.execute(text("SELECT to_regclass('skill_bkt_params')")).scalar() is None
