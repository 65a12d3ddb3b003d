"""Opens the platform's database: connects, migrates our schema and reflects the platform's tables."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.backend import refresh_view
from bkt_pipeline.db.connection import close, make_engine
from bkt_pipeline.db.loaded_tables import mark_school
from bkt_pipeline.db.migrations import current, migrate, newest
from bkt_pipeline.db.platform import Platform, reflect
from bkt_pipeline.db.retry import reason, retrying, sqlstate
from bkt_pipeline.db.source_tables import create_source_tables, write_school
from bkt_pipeline.db.urls import platform_name
from bkt_pipeline.embedded.fallback import embedded_platform_url
from bkt_pipeline.embedded.home import PLATFORM_DATABASE, home, note_platform
from bkt_pipeline.embedded.libpq import known_to_psycopg
from bkt_pipeline.errors import InvalidSettings, SchemaNotReady
from bkt_pipeline.model.simulate import school
from bkt_pipeline.settings import DATABASE_URL, database_url, settings

T = TypeVar("T")
log = logging.getLogger("bkt_pipeline")

_NOT_ALLOWED = "42501"


class Run(Protocol):
    """Does work in one transaction, like `Database.run`."""

    def __call__(self, work: Callable[[Connection], T], /) -> T: ...


@dataclass(frozen=True)
class Database:
    """An open database: its engine and the platform's tables."""

    engine: Engine
    platform: Platform
    embedded: bool
    source_schema: str | None = None
    url_variable: str = DATABASE_URL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the pooled connections; the next `run` opens new ones."""
        close(self.engine)

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in one transaction; retry it after transient failures."""
        return retrying(self.engine, work)


def connect(budget_seconds: int | None = None, url_variable: str = DATABASE_URL) -> tuple[Engine, bool]:
    """An engine for DATABASE_URL, or for the embedded server if that is not set; and whether the server is embedded.

    Interactive commands pass 0 so that failures surface immediately. Another `url_variable` must be set.
    """
    if url := database_url(url_variable):
        return make_engine(url, budget_seconds=budget_seconds), False
    if url_variable != DATABASE_URL:
        raise InvalidSettings(f"{url_variable} is not set: set it to the URL of the platform's database")
    server = embedded_platform_url(PLATFORM_DATABASE, known_to_psycopg())
    log.info("DATABASE_URL is not set: using the embedded Postgres in %s", home())
    return make_engine(server, budget_seconds=budget_seconds), True


def open_database(url_variable: str = DATABASE_URL, source_schema: str | None = None) -> Database:
    """Connect, reflect the platform's tables and bring the schema `bkt_pipeline` up to date.

    An embedded database without skills gets the synthetic school. Without a `source_schema`, BKT_SOURCE_SCHEMA applies.

    Raises
    ------
    DatabaseError
        The database cannot be reached, its tables are not what calibration needs or may not be read, or the schema
        `bkt_pipeline` is out of date and this role may not change it.
    """
    engine, is_embedded = connect(url_variable=url_variable)
    schema = source_schema or settings().source_schema
    try:
        if is_embedded:
            retrying(engine, _load_school_if_empty)
        platform = _make_ready(engine, schema)
    except BaseException:
        close(engine)
        raise
    if url := database_url(url_variable):
        note_platform(platform_name(url))
    return Database(engine, platform, is_embedded, schema, url_variable)


def _make_ready(engine: Engine, schema: str | None) -> Platform:
    try:
        # First, so that nothing of ours is created if the platform's tables cannot be used.
        platform = retrying(engine, partial(reflect, schema=schema))
        retrying(engine, partial(_bring_up_to_date, platform=platform))
        return platform
    except DBAPIError as error:
        if sqlstate(error) != _NOT_ALLOWED:
            raise
        raise SchemaNotReady(
            f"the schema bkt_pipeline or the table skill_bkt_params is missing or out of date, and this role "
            f"may not change it: {reason(error)}; run bkt-pipeline migrate with the DATABASE_URL of the owner of "
            "the platform's tables, then the SQL of bkt-pipeline migrate --print-grants"
        ) from None


def _bring_up_to_date(connection: Connection, platform: Platform) -> None:
    if current(connection) != newest():
        migrate(connection)
    refresh_view(connection, platform)


def _load_school_if_empty(connection: Connection) -> None:
    create_source_tables(connection)
    if connection.execute(text("SELECT EXISTS (SELECT FROM skills)")).scalar():
        return
    synthetic = school()
    write_school(connection, synthetic)
    mark_school(connection)
    log.info(
        "the embedded database held no skills: loaded a synthetic school of %d skills and %d attempts",
        len(synthetic.skills),
        synthetic.n_attempts,
    )
