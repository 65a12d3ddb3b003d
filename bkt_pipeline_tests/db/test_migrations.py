from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from bkt_pipeline.db.connection import make_engine, transaction
from bkt_pipeline.db.migrations import current, migrate, newest
from bkt_pipeline.db.schema import SCHEMA, own


@pytest.fixture
def connection(empty_database: str) -> Iterator[Connection]:
    engine = make_engine(empty_database)
    with transaction(engine) as connection:
        yield connection
    engine.dispose()


def test_a_migrated_database_matches_the_schema(connection: Connection) -> None:
    assert current(connection) is None
    migrate(connection)
    assert current(connection) == newest()
    context = MigrationContext.configure(
        connection,
        opts={
            "include_schemas": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
            "include_object": lambda thing, name, kind, *_: name != "alembic_version",
        },
    )
    assert compare_metadata(context, own) == []


def test_migrating_twice_changes_nothing(connection: Connection) -> None:
    migrate(connection)
    migrate(connection)
    assert current(connection) == newest()
