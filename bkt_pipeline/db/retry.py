"""Transient database failures are retried with backoff; the rest are reported in one line."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.connection import answer_seconds, budget_of, transaction
from bkt_pipeline.db.urls import CONNECT_SECONDS
from bkt_pipeline.errors import DatabaseUnavailable

T = TypeVar("T")


# Serialisation failure, deadlock and lock timeout. The classes are: connection lost, transaction state (such as
# read-only after a failover), resources exhausted, operator intervention.
TRANSIENT_STATES = frozenset(["40001", "40P01", "55P03"])
TRANSIENT_CLASSES = ("08", "25", "53", "57")


# Statement timeout, or cancelled by a user: the same statement would only time out again.
CANCELLED = "57014"


# Conflicts with other transactions; every other transient state is a failure of the database itself.
CONTENTION_STATES = frozenset(["40001", "40P01", "55P03", "25P03"])


# A failed connect has no SQLSTATE. Retrying does not help if its message has one of these phrases.
PERMANENT_CONNECT = (
    "authentication failed",
    "authentication method",
    "does not exist",
    "no pg_hba.conf entry",
    "pg_hba.conf rejects",
    "is not permitted to log in",
    "is not currently accepting connections",
    "permission denied",
    "certificate",
    "does not support SSL",
    "no password supplied",
    "definition of service",
    "service file",
    "invalid ",
    "could not translate host name",
    "failed to resolve host",
)


_TEMPORARY_DNS = "Temporary failure in name resolution"


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may succeed when it is retried."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        return False
    lost = isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    return may_pass(cause.sqlstate, str(cause)) if cause.sqlstate or lost else False


def may_pass(state: str | None, message: str) -> bool:
    """Whether a failure with this SQLSTATE, or a lost or failed connection without one, is transient."""
    if state:
        known = state in TRANSIENT_STATES or state.startswith(TRANSIENT_CLASSES)
        return known and state != CANCELLED
    return _TEMPORARY_DNS in message or not any(words in message for words in PERMANENT_CONNECT)


def retrying(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Do `work` in one transaction; retry it after transient failures, with backoff and jitter.

    It retries until the engine's `RetryBudget` is spent; after that, each transaction gets one try. A failed try
    spends at most the time of a connect, because the server may have worked for a long time before it failed. A try
    that never got an answer spends its full time. If that uses up the budget, the work is retried once more.

    Raises
    ------
    DatabaseUnavailable
        No connection could be made, or the work kept failing until the budget was spent.
    DBAPIError, psycopg.Error
        The database refused the work permanently, or a conflict with other transactions outlasted the budget.
    """
    budget, tries = budget_of(engine), 0
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
            unanswered, had_budget = took >= answer_seconds(), budget.left > 0
            budget.spend(took if unanswered else min(took, CONNECT_SECONDS))
            if budget.left <= 0 and not (unanswered and had_budget):
                if state in CONTENTION_STATES:
                    raise
                silence = f" (no answer for {answer_seconds()} s, see BKT_STATEMENT_SECONDS)" * unanswered
                often = "1 try" if tries == 1 else f"{tries} tries"
                raise DatabaseUnavailable(
                    f"{_one_line(error)}{silence}; gave up after {often} (BKT_RETRY_SECONDS sets how long to retry)"
                ) from None
            pause = min(budget.left, random.uniform(0.05, min(5.0, 0.1 * 2**tries)))
            time.sleep(pause)
            budget.spend(pause)


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of a database error; None if it has none, such as a failed connect."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return cause.sqlstate if isinstance(cause, psycopg.Error) else None


def reason(error: BaseException) -> str:
    """A database error in one line, without statement, parameters or row, which may contain students' data."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, psycopg.Error) and cause.diag.message_primary:
        return f"{cause.diag.message_primary} (SQLSTATE {cause.sqlstate})"
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    # psycopg lists the failures of several addresses below a heading.
    return " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1]) or type(cause).__name__


def _never_connected(error: BaseException) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None


def _one_line(error: BaseException) -> str:
    return f"the database cannot be used: {reason(error)}"
