"""How we reach Postgres: the URL, the engine, one transaction, what is worth a retry.

Everything here must also work through a pooler in transaction mode, so nothing is
set on the session: no prepared statements, no ``options=``, ``SET LOCAL`` only.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Timer
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine, text

from bkt_pipeline.db.urls import CONNECT_SECONDS, KEEPALIVE, libpq_url
from bkt_pipeline.settings import settings

LOCK_SECONDS = 5.0


IDLE_TIMEOUT = "60s"


# The server has cut a statement off by then, so if no answer comes the network has lost it.
ANSWER_SLACK_SECONDS = 30


_PATIENCE = "bkt_patience"


@dataclass
class RetryBudget:
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


def retry_seconds(unless_set: int | None = None) -> int:
    """How long a run retries a failing database in total: BKT_RETRY_SECONDS, or `unless_set` where that is unset."""
    configured = settings()
    if unless_set is None or "retry_seconds" in configured.model_fields_set:
        return configured.retry_seconds
    return unless_set


def answer_seconds() -> int:
    """How long a transaction may wait for its answers; then the network has lost them."""
    return settings().statement_seconds + ANSWER_SLACK_SECONDS


def make_engine(url: str, *, patience_seconds: int | None = None) -> Engine:
    """An engine that keeps a connection or two open: a night has a transaction a skill, and a new connection costs
    more than most of them. One that broke is thrown away, and `retrying` goes on with a new one."""
    conninfo = libpq_url(url)
    patience = RetryBudget(retry_seconds(patience_seconds))

    def connect() -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            conninfo,
            prepare_threshold=None,
            # libpq takes 2 as the least.
            connect_timeout=max(2, min(CONNECT_SECONDS, int(patience.left))),
            application_name="bkt-pipeline",
            # An environment or a server may set one that cannot hold the ids of all skills.
            client_encoding="utf8",
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
    seconds = settings().statement_seconds
    lock = max(0.1, min(LOCK_SECONDS, budget_of(engine).left))
    with engine.begin() as connection, _answered_within(connection, answer_seconds()):
        connection.execute(
            text(
                "SELECT set_config('TimeZone', 'UTC', true), set_config('statement_timeout', :statement, true),"
                " set_config('lock_timeout', :lock, true),"
                # Postgres then refuses what a policy would filter: fewer rows would be taken for all.
                " set_config('row_security', 'off', true),"
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


def psycopg_connection(connection: Connection) -> "psycopg.Connection[Any]":
    """The driver's own connection, for COPY and for its socket."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def close(engine: Engine) -> None:
    """Close the connections that are kept open, at the end of a run; the engine can be used for another."""
    engine.dispose()
    budget_of(engine).renew()


def budget_of(engine: Engine) -> RetryBudget:
    patience = engine.get_execution_options()[_PATIENCE]
    assert isinstance(patience, RetryBudget)
    return patience
