"""The platform's tables in every shape and type: the same answers give the same windows."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import text

from bkt_pipeline.db.answers import read_answers
from bkt_pipeline.db.attempts import read_active_skills, read_windows, window_statement
from bkt_pipeline.db.platform import reflect, reflect_source
from bkt_pipeline.errors import SourceSchemaError, WindowUnusable
from bkt_pipeline_tests.helpers.sources import AS_OF, connected, create, expected_responses
from bkt_pipeline_tests.helpers.system_server import new_database, system_server

DOMAINS = (
    "CREATE DOMAIN short AS text CHECK (value <> ''); CREATE DOMAIN key AS short; CREATE DOMAIN graded AS boolean;"
    "CREATE DOMAIN moment AS timestamptz NOT NULL;"
)
CITEXT = "CREATE EXTENSION citext;"
CI = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
UUIDS = ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002")
NUMBERED = "ALTER TABLE attempts ADD attempt_order bigint GENERATED ALWAYS AS IDENTITY;"

SHAPES: dict[str, dict[str, Any]] = {
    "text": {},
    "varchar": {"skill": "varchar(20)", "item": "varchar(20)", "student": "varchar(20)"},
    "char": {"skill": "char(5)", "item": "char(5)", "student": "char(5)"},
    "uuid": {"skill": "uuid", "skills": UUIDS},
    "smallint": {"skill": "smallint", "item": "smallint", "student": "smallint", "answer": "int"},
    "int": {"skill": "int", "item": "int", "student": "int"},
    "bigint": {"skill": "bigint", "item": "bigint", "student": "bigint"},
    "numeric": {"skill": "numeric", "item": "numeric", "student": "numeric"},
    "int skills, bigint items": {"skill": "int", "item_skill": "bigint"},
    "citext": {"skill": "citext", "item": "citext", "student": "citext", "before": CITEXT},
    "citext items": {"item_skill": "citext", "before": CITEXT},
    "domains": {"skill": "key", "answer": "graded", "time": "moment", "before": DOMAINS},
    "integer answers": {"answer": "int"},
    "numeric answers": {"answer": "numeric"},
    "double answers": {"answer": "double precision"},
    "timestamp": {"time": "timestamp"},
    "uuid key": {"key": "uuid DEFAULT gen_random_uuid() PRIMARY KEY"},
    "no key, id": {"key": "bigint GENERATED ALWAYS AS IDENTITY"},
    "no key, attempt_order": {
        "key": "text",
        "after": NUMBERED + "ALTER TABLE attempts DROP id;",
    },
    "views": {
        "after": "ALTER TABLE skills RENAME TO s; ALTER TABLE items RENAME TO i; ALTER TABLE attempts RENAME TO a;"
        "CREATE VIEW skills AS SELECT * FROM s; CREATE VIEW items AS SELECT * FROM i;"
        "CREATE VIEW attempts AS SELECT * FROM a;"
    },
    "materialised views": {
        "after": "ALTER TABLE items RENAME TO i; ALTER TABLE attempts RENAME TO a;"
        "CREATE MATERIALIZED VIEW items AS SELECT * FROM i; CREATE MATERIALIZED VIEW attempts AS SELECT * FROM a;"
    },
    "partitioned": {
        "after": "ALTER TABLE attempts RENAME TO a; CREATE TABLE attempts (LIKE a, PRIMARY KEY (id, created_at))"
        " PARTITION BY RANGE (created_at); CREATE TABLE all_of_it PARTITION OF attempts DEFAULT;"
        "INSERT INTO attempts SELECT * FROM a;"
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_windows(empty_database: str, shape: str) -> None:
    create(empty_database, **SHAPES[shape])
    with connected(empty_database) as connection:
        platform = reflect(connection)
        keys = read_active_skills(connection, platform)
        windows = read_windows(connection, platform, keys, AS_OF, 30)
        answers = read_answers(connection, platform, keys, AS_OF, 30)
    assert len(keys) == 2
    for key in keys:
        assert windows[key].responses.tolist() == expected_responses()
        assert windows[key].skill_id == key
        assert answers[key].responses.tolist() == expected_responses()
        assert len(answers[key].item_ids) == 4


SPELLINGS = {
    "citext": ("citext", CITEXT),
    "nondeterministic collation": ("text COLLATE ci", CI),
    "char": ("char(12)", ""),
    "text": ("text", ""),
}


@pytest.fixture(scope="module")
def with_icu() -> Iterator[str]:
    with system_server() as url:
        yield url


@pytest.mark.parametrize("items", SPELLINGS)
@pytest.mark.parametrize("skills", SPELLINGS)
def test_counts_are_those_of_the_platforms_own_equality(
    request: pytest.FixtureRequest, skills: str, items: str
) -> None:
    """An item may spell its skill otherwise; whatever SQL joins is read, under the key of the skill's row."""
    before = "".join({SPELLINGS[skills][1], SPELLINGS[items][1]})
    if CI in before:
        name = f"{skills}_{items}".replace(" ", "_")
        url = new_database(request.getfixturevalue("with_icu"), name)
    else:
        url = request.getfixturevalue("empty_database")
    create(
        url,
        skill=SPELLINGS[skills][0],
        item_skill=SPELLINGS[items][0],
        student="citext" if "citext" in (skills, items) else "text",
        skills=("Fractions", "Decimals"),
        before=before,
        after="UPDATE items SET skill_id = upper(skill_id) WHERE id IN ('1', '5');"
        "UPDATE attempts SET student_id = 'Ada' WHERE student_id = '1' AND item_id = '0';"
        "UPDATE attempts SET student_id = 'ADA' WHERE student_id = '1';",
    )
    with connected(url) as connection:
        platform = reflect(connection)
        windows = read_windows(connection, platform, ["Decimals", "Fractions"], AS_OF, 30)
        answers = read_answers(connection, platform, ["Decimals", "Fractions"], AS_OF, 30)
        counts = connection.execute(
            text(
                "SELECT s.id::text, count(*), count(DISTINCT a.student_id) FROM skills s JOIN items i ON i.skill_id = s.id"
                " JOIN attempts a ON a.item_id = i.id GROUP BY s.id ORDER BY 1"
            )
        ).all()
    found = [(key, window.n_attempts, window.n_students) for key, window in windows.items()]
    assert found == [tuple(row) for row in counts]
    assert [len(answers[key].responses) for key in windows] == [row[1] for row in counts]


def test_skills_that_are_equal_to_the_database_are_one(empty_database: str) -> None:
    create(
        empty_database,
        skill="citext",
        before=CITEXT,
        skills=("Fractions",),
        after="ALTER TABLE skills DROP CONSTRAINT skills_pkey; INSERT INTO skills VALUES ('fractions', true);",
    )
    with connected(empty_database) as connection:
        platform = reflect(connection)
        assert read_active_skills(connection, platform) == ["Fractions"]


def test_the_ids_index_is_used(make_platform: Any) -> None:
    """Of an id type that is not text: a cast of the column would rule the index out."""
    platform = make_platform("uuid")
    with connected(platform.url) as connection:
        source = reflect_source(connection)
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        statement = window_statement(source, AS_OF, 30).compile(connection)
        plan = connection.exec_driver_sql(
            f"EXPLAIN {statement}", statement.construct_params({"keys": [str(platform.id(1))]})
        ).scalars()
    conditions = [line.strip() for line in plan if "Index Cond" in line]
    assert any(line.startswith("Index Cond: (skill_id = ") for line in conditions), conditions


def test_a_source_schema_is_read_instead_of_the_search_path(empty_database: str) -> None:
    create(empty_database, skills=("other",))
    with psycopg.connect(empty_database) as connection:
        connection.execute(
            "CREATE SCHEMA bkt_source; CREATE VIEW bkt_source.skills AS SELECT * FROM skills;"
            "CREATE VIEW bkt_source.items AS SELECT * FROM items;"
            "CREATE VIEW bkt_source.attempts AS SELECT * FROM attempts WHERE student_id < '4'"
        )
    with connected(empty_database) as connection:
        platform = reflect(connection, "bkt_source")
        assert platform.target.schema == "bkt_source"
        assert read_windows(connection, platform, ["other"], AS_OF, 30)["other"].n_students == 3
        connection.rollback()


WRONG = {
    "UPDATE skills SET active = true; ALTER TABLE skills ALTER active TYPE text": "skills.active is text; expected boolean",
    "ALTER TABLE attempts ALTER is_correct TYPE text": "attempts.is_correct is text; expected boolean, or a number 0 or 1",
    "ALTER TABLE attempts ALTER created_at TYPE text": "attempts.created_at is text; expected timestamp",
    "ALTER TABLE attempts DROP student_id": "table attempts has no column student_id; it has id, item_id",
    "ALTER TABLE attempts DROP id": "table attempts has neither a primary key nor a column id or attempt_order",
    "DROP TABLE attempts": "no table attempts in its search path; bkt-pipeline doctor prints views",
    "CREATE SCHEMA elsewhere; ALTER TABLE attempts SET SCHEMA elsewhere": "set BKT_SOURCE_SCHEMA to it",
    "ALTER TABLE items ALTER skill_id TYPE int USING 1": "skills.id is text and items.skill_id is integer",
    "ALTER TABLE attempts ALTER item_id TYPE int USING 1": "items.id is text and attempts.item_id is integer",
}


@pytest.mark.parametrize("change", WRONG)
def test_what_cannot_be_read_is_named(empty_database: str, change: str) -> None:
    create(empty_database, after=change)
    with connected(empty_database) as connection, pytest.raises(SourceSchemaError, match=WRONG[change]):
        reflect_source(connection)


ORDERS = {
    "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY": True,
    "bigint GENERATED ALWAYS AS IDENTITY": True,
    "uuid DEFAULT gen_random_uuid() PRIMARY KEY": False,
    "text DEFAULT gen_random_uuid()::text PRIMARY KEY": False,
}


@pytest.mark.parametrize("key", ORDERS)
def test_a_key_of_whole_numbers_settles_the_order(empty_database: str, key: str) -> None:
    create(empty_database, key=key)
    with connected(empty_database) as connection:
        assert reflect_source(connection).order_is_total is ORDERS[key]
        connection.execute(text(NUMBERED))
        numbered = reflect_source(connection)
        assert numbered.order_is_total
        assert numbered.attempt_order[1].name == "attempt_order"


# --------------------------------------------------------------------------------------------------------
# A skill that cannot be read

LONG = "".join(chr(33 + (n * 7919) % 90) for n in range(2650)).replace("'", "x")


def test_a_skill_that_cannot_be_read_does_not_affect_the_others(empty_database: str) -> None:
    create(
        empty_database,
        answer="int",
        skills=("good", "odd grade", "raises", "fine"),
        after="UPDATE attempts SET is_correct = 2 WHERE item_id = '4' AND student_id IN ('1', '2');"
        "ALTER TABLE attempts RENAME TO a; CREATE VIEW attempts AS"
        " SELECT id, (CASE WHEN item_id = '8' THEN (1 / (length(student_id) - 1))::text ELSE student_id END) AS student_id,"
        " item_id, is_correct, created_at FROM a;",
    )
    keys = ["fine", "good", "odd grade", "raises", LONG, "caf\udce9"]
    with connected(empty_database) as connection:
        platform = reflect_source(connection)
        windows = read_windows(connection, platform, keys, AS_OF, 30)
        answers = read_answers(connection, platform, keys, AS_OF, 30)
    for found in (windows, answers):
        assert list(found) == keys
        assert [isinstance(found[key], WindowUnusable) for key in keys] == [
            False,
            False,
            True,
            True,
            True,
            True,
        ]
        assert found["good"].responses.tolist() == expected_responses()
        assert "of its attempts have an is_correct other than 0 and 1" in str(found["odd grade"])
        assert "SQLSTATE 22012" in str(found["raises"])
        assert "its id has 2,650 bytes" in str(found[LONG])
        assert "not valid UTF-8" in str(found["caf\udce9"])
    assert str(windows["odd grade"]).startswith("4 of its attempts")


def test_keys_that_are_not_ids_of_the_platform_are_named(empty_database: str) -> None:
    create(empty_database, skill="smallint")
    keys = ["1", "abc", "70000", "01"]
    with connected(empty_database) as connection:
        windows = read_windows(connection, reflect_source(connection), keys, AS_OF, 30)
    assert windows["1"].n_attempts == 30
    for key in keys[1:]:
        assert f"skill '{key}' is not a smallint, as skills.id is" in str(windows[key])


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_other_encodings_are_read(databases: Any, server_url: str, encoding: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE encoded TEMPLATE template0 ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C'".encode()
        )
    url = urlsplit(server_url)._replace(path="/encoded").geturl()
    try:
        create(url, skills=("é", "b"))
        with connected(url) as connection:
            source = reflect_source(connection)
            assert read_active_skills(connection, source) == ["b", "é"]
            windows = read_windows(connection, source, ["b", "é", "☃"], AS_OF, 30)
        assert windows["é"].responses.tolist() == expected_responses()
        if encoding == "LATIN1":
            assert isinstance(windows["☃"], WindowUnusable)
    finally:
        databases.drop(url)
