"""Dagster's own storage: always Postgres, with pooled connections."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
from alembic.util import CommandError
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import DagsterPostgresException, retry_pg_connection_fn
from psycopg2.extensions import parse_dsn
from sqlalchemy import URL, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.retry import reason
from bkt_pipeline.db.urls import platform_name, psycopg2_url
from bkt_pipeline.embedded.fallback import embedded_url_for
from bkt_pipeline.embedded.home import home
from bkt_pipeline.embedded.libpq import NEWER_PARAMETERS
from bkt_pipeline.errors import DatabaseUnavailable
from bkt_pipeline.instance.event_log import POOL, BatchingEventLogStorage, our_event_log
from bkt_pipeline.instance.foreign_tables import foreign, refuse_foreign_tables
from bkt_pipeline.instance.lasting import driver_error
from bkt_pipeline.instance.lost import replace_lost_connections
from bkt_pipeline.instance.run_storage import LastingRunStorage
from bkt_pipeline.settings import settings

EMBEDDED_NAME = "dagster"


def embedded_name() -> str:
    """The name of the embedded database of Dagster's storage: one for the demo, and one for each platform.

    This keeps the partitions, runs and schedules of two platforms with the same home apart, such as staging and
    production.
    """
    platform = settings().database_url
    if platform is None:
        return EMBEDDED_NAME
    name = platform_name(platform.get_secret_value())
    return f"{EMBEDDED_NAME}_{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def embedded_dsn() -> str:
    """The embedded database that is used if DAGSTER_POSTGRES_URL is not set, in the form for psycopg2."""
    known = [name for name in NEWER_PARAMETERS if _psycopg2_knows(name)]
    return embedded_url_for("DAGSTER_POSTGRES_URL", embedded_name(), known)


def sqlalchemy_url(dsn: str) -> str:
    """The DSN as one parameter, because SQLAlchemy drops empty parameters and some are empty on purpose."""
    return URL.create("postgresql+psycopg2", query={"dsn": dsn}).render_as_string()


def _psycopg2_knows(parameter: str) -> bool:
    try:
        parse_dsn(f"{parameter}=''")
    except psycopg2.ProgrammingError:
        return False
    return True


CREATION_MARK = "bkt_pipeline_unfinished"


@contextmanager
def creating_tables_atomically(dsn: str) -> Iterator[None]:
    """Let Dagster create its tables in one of our databases, all of them or none.

    Dagster creates them one by one, and assumes that all exist if one does. If a process was killed half-way, a marker
    table remains; the incomplete tables are then dropped and created again.
    """
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(hashtextextended('bkt_pipeline:dagster', 0))")
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [CREATION_MARK])
            if cursor.fetchone() == (True,):
                cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            cursor.execute("SELECT NOT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public')")
            if cursor.fetchone() == (True,):
                cursor.execute(f"CREATE TABLE {CREATION_MARK} ()")
            yield
            cursor.execute(f"DROP TABLE IF EXISTS {CREATION_MARK}")


class PooledPostgresStorage(DagsterPostgresStorage):
    """dagster-postgres's storage at DAGSTER_POSTGRES_URL or in an embedded database, pooled and with batched events.

    A run over 1,000 partitions spends 6 s on its events instead of 73 s: the plain storage opens 2.65
    connections for each event.
    """

    def __init__(self, inst_data: Any = None) -> None:
        write_events_in_batches()
        creating: AbstractContextManager[None]
        if configured := settings().dagster_postgres_url:
            # A database that the user named may hold other tables, so nothing there is ever dropped.
            url, creating = psycopg2_url(configured.get_secret_value()), nullcontext()
            _refuse_foreign_tables(url)
        else:
            dsn = embedded_dsn()
            url, creating = sqlalchemy_url(dsn), creating_tables_atomically(dsn)
        replace_lost_connections()
        with creating:
            try:
                super().__init__(postgres_url=url, should_autocreate_tables=True, inst_data=inst_data)
            except CommandError:
                # Its alembic_version holds another program's revision beside tables of Dagster.
                raise foreign() from None
        self._event_log = BatchingEventLogStorage(url, should_autocreate_tables=False)
        self._runs = LastingRunStorage(url, should_autocreate_tables=False)
        for storage in (self.event_log_storage, self.run_storage, self.schedule_storage):
            storage.optimize_for_webserver(**POOL)

    @property
    def event_log_storage(self) -> BatchingEventLogStorage:
        return self._event_log

    @property
    def run_storage(self) -> LastingRunStorage:
        return self._runs

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "PooledPostgresStorage":
        return cls(inst_data=inst_data)


def write_events_in_batches() -> None:
    """Let Dagster write many events at once; it reads the batch size from the environment."""
    os.environ["DAGSTER_EVENT_BATCH_SIZE"] = str(settings().dagster_event_batch_size)


def check_storage() -> None:
    """Check, before anything is created, that DAGSTER_POSTGRES_URL names a database that Dagster can have.

    Raises
    ------
    InvalidSettings
        Tables of another program are in the way.
    DatabaseUnavailable
        It cannot be reached.
    """
    if configured := settings().dagster_postgres_url:
        with _naming_the_storage():
            _refuse_foreign_tables(psycopg2_url(configured.get_secret_value()))


def _refuse_foreign_tables(url: str) -> None:
    engine = create_engine(url, poolclass=NullPool)

    def check() -> None:
        with engine.connect() as connection:
            refuse_foreign_tables(connection)

    retry_pg_connection_fn(check)


def slow_to_start() -> str | None:
    """What would make Dagster's daemon start runs faster, if the dagster.yaml in DAGSTER_HOME names another storage.

    Whatever creates a run, such as the daemon, first writes what the run intends for every skill. Our code is not in that
    process unless its storage is ours.
    """
    folder = settings().dagster_home
    configured = folder / "dagster.yaml" if folder else None
    if (
        configured is None
        or not configured.exists()
        or PooledPostgresStorage.__name__ in configured.read_text()
    ):
        return None
    ours = f"{{custom: {{module: {__name__}, class: {PooledPostgresStorage.__name__}, config: {{}}}}}}"
    return (
        "not ours, so the daemon starts a run of 1,000 skills 20 times as slowly (98 s instead of 5 s, measured on "
        f"dagster-postgres); set storage: {ours} in dagster.yaml, and DAGSTER_POSTGRES_URL to the same database, for the "
        "daemon and the webserver too"
    )


@contextmanager
def dagster_instance() -> Iterator[dg.DagsterInstance]:
    """The Dagster instance, the same one that the UI shows.

    Raises
    ------
    InvalidSettings
        DAGSTER_POSTGRES_URL names a database with another program's tables.
    DatabaseUnavailable
        Its storage cannot be reached, or the connection was lost during the work.
    """
    use_dagster_home()
    with _naming_the_storage(), dg.DagsterInstance.get() as instance, our_event_log(instance):
        yield instance


@contextmanager
def _naming_the_storage() -> Iterator[None]:
    """Name Dagster's storage in the errors of its connections."""
    try:
        yield
    except (DagsterPostgresException, DBAPIError) as error:
        # Errors of another driver come from the platform's database.
        if (cause := driver_error(error)) is None:
            raise
        raise DatabaseUnavailable(
            f"Dagster's storage (DAGSTER_POSTGRES_URL) cannot be used: {reason(cause)}"
        ) from None


def is_used() -> bool:
    """Whether a Dagster instance is named by the settings, or was used on this machine before."""
    configured = settings()
    named = configured.dagster_home or configured.dagster_postgres_url
    return bool(named) or (home() / "dagster").exists()


def use_dagster_home() -> Path:
    """Return DAGSTER_HOME; if it is not set, set it to a folder of ours with this package's dagster.yaml."""
    if configured := settings().dagster_home:
        return configured
    folder = home() / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copyfile(Path(__file__).with_name(name), folder / name)
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder
