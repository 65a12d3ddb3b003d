"""How we reach Postgres: the URL, the engine, one transaction, what is worth a retry.

Everything here must also work through a pooler in transaction mode, so nothing is
set on the session: no prepared statements, no ``options=``, ``SET LOCAL`` only.
"""

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from bkt_pipeline.errors import DatabaseUnavailable, InvalidSettings

T = TypeVar("T")

CONNECT_SECONDS = 10
STATEMENT_TIMEOUT = "10min"
LOCK_TIMEOUT = "5s"
IDLE_TIMEOUT = "60s"
TRIES = 6

# 57014 (statement timeout or a person's cancel) is left out: the same statement would only run as long again.
TRANSIENT_STATES = frozenset(
    [
        "40001",
        "40P01",
        "55P03",
        "57P01",
        "57P02",
        "57P03",
        "53000",
        "53100",
        "53200",
        "53300",
        "53400",
        "25P03",
    ]
)
# A failed connect carries no SQLSTATE; these never mend themselves.
PERMANENT_CONNECT = (
    "password authentication failed",
    "does not exist",
    "no pg_hba.conf entry",
    "certificate",
    "no password supplied",
    "could not translate host name",
    "failed to resolve host",
)

_DRIVER = re.compile(r"^(postgres(?:ql)?)(\+\w+)?://")


def libpq_url(url: str) -> str:
    """Any form of Postgres URL (``postgres://``, with a driver name, or ``host=… dbname=…``), as libpq reads it."""
    plain = _DRIVER.sub("postgresql://", url.strip())
    try:
        conninfo_to_dict(plain)
    except psycopg.ProgrammingError:
        # The cause quotes the string, password and all: it must not be chained.
        raise InvalidSettings(
            "the database URL cannot be read as a Postgres URL; expected postgresql://user:password@host:5432/name "
            "(special characters in the password percent-encoded)"
        ) from None
    return plain


def psycopg2_url(url: str) -> str:
    """The same URL for dagster-postgres, which needs its driver named: a bare one means psycopg 3 to SQLAlchemy 2.1."""
    try:
        return (
            make_url(_DRIVER.sub("postgresql://", url.strip()))
            .set(drivername="postgresql+psycopg2")
            .render_as_string(hide_password=False)
        )
    except ArgumentError:
        raise InvalidSettings(
            "the URL of Dagster's storage cannot be read; expected postgresql://user:password@host:5432/name"
        ) from None


def make_engine(url: str) -> Engine:
    """An engine that keeps a connection or two open: a night has a transaction a skill, and a new connection costs
    more than most of them. One that broke is thrown away, and `retrying` goes on with a new one."""
    conninfo = libpq_url(url)

    def connect() -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            conninfo,
            prepare_threshold=None,
            connect_timeout=CONNECT_SECONDS,
            application_name="bkt-pipeline",
            keepalives=1,
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            tcp_user_timeout=30_000,
        )

    return create_engine("postgresql+psycopg://", creator=connect, pool_size=2, pool_recycle=300)


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction with our time limits, its time zone pinned to UTC."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "SELECT set_config('TimeZone', 'UTC', true), set_config('statement_timeout', :statement, true),"
                " set_config('lock_timeout', :lock, true),"
                " set_config('idle_in_transaction_session_timeout', :idle, true)"
            ),
            {"statement": STATEMENT_TIMEOUT, "lock": LOCK_TIMEOUT, "idle": IDLE_TIMEOUT},
        )
        yield connection


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may well succeed when it is tried again."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        return False
    if cause.sqlstate:
        return cause.sqlstate.startswith("08") or cause.sqlstate in TRANSIENT_STATES
    if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
        return not any(words in str(cause) for words in PERMANENT_CONNECT)
    return False


def retrying(engine: Engine, work: Callable[[Connection], T], *, tries: int = TRIES) -> T:
    """Do `work` in one transaction; where the database is in passing trouble, again, with backoff and jitter.

    Raises
    ------
    DatabaseUnavailable
        No connection could be had, or it broke, at every one of the `tries`.
    """
    for attempt in range(1, tries + 1):
        try:
            with transaction(engine) as connection:
                return work(connection)
        except (DBAPIError, psycopg.Error) as error:
            if not is_transient(error):
                if _never_connected(error):
                    raise DatabaseUnavailable(_one_line(error)) from None
                raise
            if attempt == tries:
                raise DatabaseUnavailable(f"{_one_line(error)} (tried {tries} times)") from None
            time.sleep(random.uniform(0.05, min(5.0, 0.1 * 2**attempt)))
    raise AssertionError("unreachable: the last try returns or raises")


def reason(error: BaseException) -> str:
    """The first line of what a database said, without statement, parameters or row (they may hold students' data)."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, psycopg.Error) and cause.diag.message_primary:
        return f"{cause.diag.message_primary} (SQLSTATE {cause.sqlstate})"
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def _never_connected(error: BaseException) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None


def _one_line(error: BaseException) -> str:
    return f"the database cannot be used: {reason(error)}"
