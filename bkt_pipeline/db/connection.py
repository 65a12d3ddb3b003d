"""Connections to Postgres: the engine, one transaction, and the time left for retries.

Everything here must also work through a pooler in transaction mode, so nothing is set on the
session: no prepared statements, no ``options=``, only ``SET LOCAL``.
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


# By then the server has cancelled the statement, so if no answer has arrived, the network has lost it.
ANSWER_SLACK_SECONDS = 30


_RETRY_BUDGET = "bkt_retry_budget"


@dataclass
class RetryBudget:
    """Time left for retrying a failing database.

    All transactions of a run share one budget. If the database goes down during a run over a thousand skills, or
    another session locks a table that all of them write, the run waits for it only once.
    """

    seconds: float
    left: float = 0.0

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Restore the full budget, for the next run."""
        self.left = self.seconds

    def spend(self, seconds: float) -> None:
        """Take the time of a failed try or of a pause from the budget."""
        self.left = max(0.0, self.left - seconds)


def retry_seconds(unless_set: int | None = None) -> int:
    """How long a run retries a failing database in total: BKT_RETRY_SECONDS, or `unless_set` if that is not set."""
    configured = settings()
    if unless_set is None or "retry_seconds" in configured.model_fields_set:
        return configured.retry_seconds
    return unless_set


def answer_seconds() -> int:
    """How long a transaction waits for answers before its connection counts as lost."""
    return settings().statement_seconds + ANSWER_SLACK_SECONDS


def make_engine(url: str, *, budget_seconds: int | None = None) -> Engine:
    """An engine with a small connection pool.

    A night runs one transaction per skill, and a new connection costs more than most of them. A broken connection
    is discarded, and `retrying` continues with a new one.
    """
    conninfo = libpq_url(url)
    budget = RetryBudget(retry_seconds(budget_seconds))

    def connect() -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            conninfo,
            prepare_threshold=None,
            # libpq's minimum is 2.
            connect_timeout=max(2, min(CONNECT_SECONDS, int(budget.left))),
            application_name="bkt-pipeline",
            # The environment or the server may set an encoding that cannot represent the ids of all skills.
            client_encoding="utf8",
            **KEEPALIVE,
        )

    return create_engine(
        "postgresql+psycopg://",
        creator=connect,
        pool_size=2,
        pool_recycle=300,
        # Parameters may be students' data, and errors are logged.
        hide_parameters=True,
        execution_options={_RETRY_BUDGET: budget},
    )


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction with our time limits, and with the time zone UTC."""
    seconds = settings().statement_seconds
    lock = max(0.1, min(LOCK_SECONDS, budget_of(engine).left))
    # The time limit covers the commit too.
    with engine.connect() as connection, _answered_within(connection, answer_seconds()), connection.begin():
        connection.execute(
            text(
                "SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true),"
                " set_config('statement_timeout', :statement, true),"
                " set_config('lock_timeout', :lock, true),"
                # Postgres then refuses a query that a policy would filter, instead of returning only some of the rows.
                " set_config('row_security', 'off', true),"
                # Numbers arrive as they are stored.
                " set_config('extra_float_digits', '1', true),"
                " set_config('idle_in_transaction_session_timeout', :idle, true)"
            ),
            {"statement": f"{seconds}s", "lock": f"{lock * 1000:.0f}ms", "idle": IDLE_TIMEOUT},
        )
        yield connection


@contextmanager
def _answered_within(connection: Connection, seconds: float) -> Iterator[None]:
    """Shut the connection down if the transaction has not ended within `seconds`.

    A network that drops packets silently notifies neither side, and libpq has no setting that bounds the wait
    for an answer.
    """
    # A duplicate, because the descriptor of a closed socket may be reused for another file.
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
    """The underlying psycopg connection, for COPY and for its socket."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def close(engine: Engine) -> None:
    """Close the pooled connections at the end of a run; the engine can be used for another run."""
    engine.dispose()
    budget_of(engine).reset()


def budget_of(engine: Engine) -> RetryBudget:
    """The retry budget that all transactions of this engine share."""
    budget = engine.get_execution_options()[_RETRY_BUDGET]
    assert isinstance(budget, RetryBudget)
    return budget
