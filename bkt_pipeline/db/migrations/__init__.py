"""Migrations of the schema `bkt_pipeline`, and how they are run."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select, text

from bkt_pipeline.db.schema import SCHEMA


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, which stands in no file of its own."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    return settings


def newest() -> str:
    """The revision that this version of the package works with."""
    head = ScriptDirectory.from_config(config()).get_current_head()
    assert head is not None
    return head


def current(connection: Connection) -> str | None:
    """The revision that the database is at; None where the schema was never made."""
    if connection.execute(select(func.to_regclass(f"{SCHEMA}.alembic_version"))).scalar() is None:
        return None
    found: str | None = connection.execute(
        text("SELECT version_num FROM bkt_pipeline.alembic_version")
    ).scalar()
    return found


def migrate(connection: Connection) -> None:
    """Bring the schema `bkt_pipeline` to the newest revision; one process at a time, the others wait."""
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("bkt_pipeline:migrate", 0))))
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS bkt_pipeline"))
    command.upgrade(config(connection), "head")
