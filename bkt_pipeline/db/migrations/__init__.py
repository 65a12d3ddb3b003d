"""The migrations of the schema `bkt_pipeline`, and the functions that run them."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import ExecutableDDLElement, SetColumnComment, SetTableComment

from bkt_pipeline.db.priors import own
from bkt_pipeline.db.schema import SCHEMA
from bkt_pipeline.errors import SchemaNotReady


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, which needs no file of its own."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    return settings


@cache
def newest() -> str:
    """The revision that this version of the package needs. Alembic reads and compiles every migration to find it."""
    head = ScriptDirectory.from_config(config()).get_current_head()
    assert head is not None
    return head


def known_revisions() -> set[str]:
    """All revisions that this version of the package knows."""
    return {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}


def current(connection: Connection) -> str | None:
    """The revision that the database is at; None if the schema does not exist."""
    if connection.execute(select(func.to_regclass(f"{SCHEMA}.alembic_version"))).scalar() is None:
        return None
    found: str | None = connection.execute(
        text("SELECT version_num FROM bkt_pipeline.alembic_version")
    ).scalar()
    return found


def migrate(connection: Connection) -> None:
    """Bring the schema `bkt_pipeline` to the newest revision; one process migrates while others wait.

    Raises
    ------
    SchemaNotReady
        A newer version of this package has migrated the schema.
    """
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("bkt_pipeline:migrate", 0))))
    revision = current(connection)
    if revision is not None and revision not in known_revisions():
        raise SchemaNotReady(
            f"the schema {SCHEMA} is at revision {revision}, which this version of bkt_pipeline does not know; "
            "install the version that migrated it, or a newer one"
        )
    # Checked first, because even IF NOT EXISTS needs the right to create schemas, which the role may lack.
    if connection.execute(select(func.to_regnamespace(SCHEMA))).scalar() is None:
        connection.execute(text("CREATE SCHEMA bkt_pipeline"))
    command.upgrade(config(connection), "head")
    _refresh_comments(connection)


def _refresh_comments(connection: Connection) -> None:
    """Set the comments of our tables and columns to those in `schema.py`, so that migrations need not repeat them."""
    # One round trip instead of 300. Without parameters, psycopg takes several statements and leaves % alone.
    connection.exec_driver_sql(_comments(), execution_options={"no_parameters": True})


@cache
def _comments() -> str:
    # A paramstyle for which SQLAlchemy does not double %.
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    elements: list[ExecutableDDLElement] = []
    for table in own.sorted_tables:
        elements += [SetTableComment(table), *map(SetColumnComment, table.columns)]
    return ";\n".join(str(element.compile(dialect=dialect)) for element in elements)
