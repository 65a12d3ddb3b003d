"""How we reach Postgres: the URL, the engine, one transaction, what is worth a retry.

Everything here must also work through a pooler in transaction mode, so nothing is
set on the session: no prepared statements, no ``options=``, ``SET LOCAL`` only.
"""

import os
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Timer
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from bkt_pipeline.errors import DatabaseUnavailable, InvalidSettings

T = TypeVar("T")

RETRY_SECONDS = 90
STATEMENT_SECONDS = 600
CONNECT_SECONDS = 10
LOCK_SECONDS = 5.0
IDLE_TIMEOUT = "60s"
# Finds out within a minute that the other end is gone; in seconds, the last in milliseconds.
KEEPALIVE: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
# The server has cut a statement off by then, so if no answer comes the network has lost it.
ANSWER_SLACK_SECONDS = 30

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
# The trouble of one transaction with others; all of the rest is the database's own.
CONTENTION_STATES = frozenset(["40001", "40P01", "55P03", "25P03"])
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

_PASSING_DNS = "Temporary failure in name resolution"

_DRIVER = re.compile(r"^(postgres(?:ql)?)(\+\w+)?://")
_PATIENCE = "bkt_patience"
_UNREADABLE = (
    "the database URL cannot be read as a Postgres URL; expected postgresql://user:password@host:5432/name "
    "(special characters in the password percent-encoded)"
)


@dataclass
class Patience:
    """What is left of the time that a run may lose to a database in trouble.

    It is one sum for all of the run's transactions: a database that dies under a thousand skills, or
    a lock on the table that all of them write, costs it once.
    """

    seconds: float
    left: float = 0.0

    def __post_init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin again, as another run."""
        self.left = self.seconds

    def lose(self, seconds: float) -> None:
        """Count time that was lost."""
        self.left = max(0.0, self.left - seconds)


def retry_seconds(default: int = RETRY_SECONDS) -> int:
    """How long a run waits out trouble of the database, altogether: BKT_RETRY_SECONDS, or 90."""
    return _seconds_from("BKT_RETRY_SECONDS", default, at_least=0)


def statement_seconds() -> int:
    """How long a statement may take: BKT_STATEMENT_SECONDS, or 600."""
    return _seconds_from("BKT_STATEMENT_SECONDS", STATEMENT_SECONDS, at_least=1)


def answer_seconds() -> int:
    """How long a transaction may wait for its answers; then the network has lost them."""
    return statement_seconds() + ANSWER_SLACK_SECONDS


def _seconds_from(name: str, default: int, at_least: int) -> int:
    said = os.environ.get(name, "").strip() or str(default)
    if not re.fullmatch(r"[0-9]{1,6}", said) or int(said) < at_least:
        raise InvalidSettings(
            f"{name} is {said!r}; it must be a whole number of seconds, at least {at_least}"
        )
    return int(said)


def libpq_url(url: str) -> str:
    """Any form of Postgres URL (``postgres://``, with a driver name, or ``host=… dbname=…``), as libpq reads it.

    Raises
    ------
    InvalidSettings
        It is none; or its parts show that the password is not percent-encoded, and would come out in messages.
    """
    plain = _DRIVER.sub("postgresql://", url.strip())
    try:
        parts = conninfo_to_dict(plain)
    except psycopg.ProgrammingError:
        # The cause quotes the string, password and all: it must not be chained.
        raise InvalidSettings(_UNREADABLE) from None
    misread = (
        not re.fullmatch(r"[0-9,]*", str(parts.get("port", "")))
        or re.search(r"[@?#\s]", str(parts.get("host", "")).removeprefix("@"))
        or "@" in str(parts.get("dbname", ""))
    )
    if misread:
        raise InvalidSettings(_UNREADABLE)
    return plain


def psycopg2_url(url: str) -> str:
    """The same URL for dagster-postgres, which needs its driver named: a bare one means psycopg 3 to SQLAlchemy 2.1."""
    plain = libpq_url(url)
    try:
        parsed = make_url(plain).set(drivername="postgresql+psycopg2")
    except (ArgumentError, ValueError):
        raise InvalidSettings(
            "the URL of Dagster's storage cannot be read; expected postgresql://user:password@host:5432/name"
        ) from None
    ours = {"connect_timeout": CONNECT_SECONDS, **KEEPALIVE}
    parsed = parsed.update_query_dict(
        {name: str(value) for name, value in ours.items() if name not in parsed.query}
    )
    return parsed.render_as_string(hide_password=False)


def make_engine(url: str, *, patience_seconds: int = RETRY_SECONDS) -> Engine:
    """An engine that keeps a connection or two open: a night has a transaction a skill, and a new connection costs
    more than most of them. One that broke is thrown away, and `retrying` goes on with a new one."""
    conninfo = libpq_url(url)
    patience = Patience(retry_seconds(patience_seconds))

    def connect() -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            conninfo,
            prepare_threshold=None,
            # libpq takes 2 as the least.
            connect_timeout=max(2, min(CONNECT_SECONDS, int(patience.left))),
            application_name="bkt-pipeline",
            **KEEPALIVE,
        )

    return create_engine(
        "postgresql+psycopg://",
        creator=connect,
        pool_size=2,
        pool_recycle=300,
        # What a statement was given may be of students, and errors are logged.
        hide_parameters=True,
        execution_options={_PATIENCE: patience},
    )


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction with our time limits, its time zone pinned to UTC."""
    seconds = statement_seconds()
    lock = max(0.1, min(LOCK_SECONDS, _patience_of(engine).left))
    with engine.begin() as connection, _answered_within(connection, answer_seconds()):
        connection.execute(
            text(
                "SELECT set_config('TimeZone', 'UTC', true), set_config('statement_timeout', :statement, true),"
                " set_config('lock_timeout', :lock, true),"
                " set_config('idle_in_transaction_session_timeout', :idle, true)"
            ),
            {"statement": f"{seconds}s", "lock": f"{lock * 1000:.0f}ms", "idle": IDLE_TIMEOUT},
        )
        yield connection


@contextmanager
def _answered_within(connection: Connection, seconds: float) -> Iterator[None]:
    """Break the connection when the transaction has not ended by then.

    A network that swallows packets tells neither side, and no setting of libpq bounds the wait for an answer.
    """
    # A duplicate, because the number of a closed socket may be another file's by then.
    line = socket.socket(fileno=os.dup(psycopg_connection(connection).fileno()))

    def cut() -> None:
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    timer = Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        line.close()


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may well succeed when it is tried again."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        return False
    if cause.sqlstate:
        return cause.sqlstate.startswith("08") or cause.sqlstate in TRANSIENT_STATES
    if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
        said = str(cause)
        return _PASSING_DNS in said or not any(words in said for words in PERMANENT_CONNECT)
    return False


def retrying(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Do `work` in one transaction; where the database is in passing trouble, again, with backoff and jitter.

    Goes on until the engine's `Patience` is used up; then each transaction has one try. A try counts for no more
    than a connect may take, as the server may have been at work for long before it went away; but one that was
    never answered counts in full, and the one that uses the patience up is made again.

    Raises
    ------
    DatabaseUnavailable
        No connection could be had, or it broke, until then.
    DBAPIError, psycopg.Error
        The database refused the work for good; or until then, for what another transaction does.
    """
    patience, tries = _patience_of(engine), 0
    while True:
        started, tries = time.monotonic(), tries + 1
        try:
            with transaction(engine) as connection:
                return work(connection)
        except (DBAPIError, psycopg.Error) as error:
            state = sqlstate(error)
            if not is_transient(error):
                if _never_connected(error):
                    raise DatabaseUnavailable(_one_line(error)) from None
                raise
            took = time.monotonic() - started
            unanswered, had_patience = took >= answer_seconds(), patience.left > 0
            patience.lose(took if unanswered else min(took, CONNECT_SECONDS))
            if patience.left <= 0 and not (unanswered and had_patience):
                if state in CONTENTION_STATES:
                    raise
                silence = f" (no answer for {answer_seconds()} s, see BKT_STATEMENT_SECONDS)" * unanswered
                raise DatabaseUnavailable(
                    f"{_one_line(error)}{silence}; gave up at try {tries} (BKT_RETRY_SECONDS says how long to go on)"
                ) from None
            pause = min(patience.left, random.uniform(0.05, min(5.0, 0.1 * 2**tries)))
            time.sleep(pause)
            patience.lose(pause)


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of what a database said; None where it said nothing, as at a failed connect."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return cause.sqlstate if isinstance(cause, psycopg.Error) else None


def reason(error: BaseException) -> str:
    """What a database said in one line, without statement, parameters or row (they may hold students' data)."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, psycopg.Error) and cause.diag.message_primary:
        return f"{cause.diag.message_primary} (SQLSTATE {cause.sqlstate})"
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    # psycopg lists the failures of several addresses below a heading.
    return " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1]) or type(cause).__name__


def psycopg_connection(connection: Connection) -> "psycopg.Connection[Any]":
    """The driver's own connection, for COPY and for its socket."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def close(engine: Engine) -> None:
    """Close the connections that are kept open, at the end of a run; the engine can be used for another."""
    engine.dispose()
    _patience_of(engine).renew()


def _patience_of(engine: Engine) -> Patience:
    patience = engine.get_execution_options()[_PATIENCE]
    assert isinstance(patience, Patience)
    return patience


def _never_connected(error: BaseException) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None


def _one_line(error: BaseException) -> str:
    return f"the database cannot be used: {reason(error)}"
