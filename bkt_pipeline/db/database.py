"""Opens the platform's database: connects, migrates our schema and reflects the platform's tables."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.connection import close, make_engine
from bkt_pipeline.db.migrations import current, migrate, newest
from bkt_pipeline.db.platform import Platform, reflect
from bkt_pipeline.db.retry import reason, retrying, sqlstate
from bkt_pipeline.db.source_tables import create_source_tables, write_school
from bkt_pipeline.embedded.fallback import embedded_url_for
from bkt_pipeline.errors import SchemaNotReady
from bkt_pipeline.model.simulate import school
from bkt_pipeline.settings import settings

T = TypeVar("T")
log = logging.getLogger("bkt_pipeline")

_NOT_ALLOWED = "42501"
EMBEDDED_NAME = "bkt"
SCHOOL = "The synthetic school of bkt-pipeline"  # comment on the table skills while the school is in it


class Run(Protocol):
    """Does work in one transaction, like `Database.run`."""

    def __call__(self, work: Callable[[Connection], T], /) -> T: ...


@dataclass(frozen=True)
class Database:
    """An open database: its engine and the platform's tables."""

    engine: Engine
    platform: Platform
    embedded: bool

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


def connect(budget_seconds: int | None = None) -> tuple[Engine, bool]:
    """An engine for DATABASE_URL, or for the embedded server if that is not set; and whether the server is embedded.

    Interactive commands pass 0 so that failures surface immediately.
    """
    if url := settings().database_url:
        return make_engine(url.get_secret_value(), budget_seconds=budget_seconds), False
    server = embedded_url_for("DATABASE_URL", EMBEDDED_NAME)
    return make_engine(server, budget_seconds=budget_seconds), True


def open_database() -> Database:
    """Connect, bring the schema `bkt_pipeline` up to date and reflect the platform's tables.

    An embedded database without skills gets the synthetic school.

    Raises
    ------
    DatabaseError
        The database cannot be reached, its tables are not what calibration needs, or the schema
        `bkt_pipeline` is out of date and this role may not change it.
    """
    engine, is_embedded = connect()
    if is_embedded:
        retrying(engine, _load_school_if_empty)
    try:
        if retrying(engine, current) != newest():
            retrying(engine, migrate)
        platform = retrying(engine, reflect)
    except DBAPIError as error:
        if sqlstate(error) != _NOT_ALLOWED:
            raise
        raise SchemaNotReady(
            f"the schema bkt_pipeline or the table skill_bkt_params is missing or out of date, and this role "
            f"may not change it: {reason(error)}; run bkt-pipeline migrate with the DATABASE_URL of the owner of "
            "the platform's tables, then deploy/grants.sql"
        ) from None
    return Database(engine, platform, is_embedded)


def drop_synthetic_school(connection: Connection) -> None:
    """Prepare an embedded database for a load: delete the synthetic school and everything calibrated from it.

    Data from an earlier load is kept.
    """
    if (
        connection.execute(text("SELECT obj_description(to_regclass('skills'), 'pg_class')")).scalar()
        == SCHOOL
    ):
        connection.execute(text("DROP TABLE IF EXISTS attempts, items, skills, skill_bkt_params"))
        connection.execute(text("DROP SCHEMA IF EXISTS bkt_pipeline CASCADE"))
    create_source_tables(connection)


def _load_school_if_empty(connection: Connection) -> None:
    create_source_tables(connection)
    if connection.execute(text("SELECT EXISTS (SELECT FROM skills)")).scalar():
        return
    synthetic = school()
    write_school(connection, synthetic)
    connection.execute(text(f"COMMENT ON TABLE skills IS '{SCHOOL}'"))
    log.info(
        "the embedded database held no skills: loaded a synthetic school of %d skills and %d attempts",
        len(synthetic.skills),
        synthetic.n_attempts,
    )
