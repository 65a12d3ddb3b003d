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

    Goes on until the engine's `RetryBudget` is used up; then each transaction has one try. A try counts for no more
    than a connect may take, as the server may have been at work for long before it went away; but one that was
    never answered counts in full, and the one that uses the patience up is made again.

    Raises
    ------
    DatabaseUnavailable
        No connection could be had, or it broke, until then.
    DBAPIError, psycopg.Error
        The database refused the work for good; or until then, for what another transaction does.
    """
    patience, tries = budget_of(engine), 0
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


def _never_connected(error: BaseException) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None


def _one_line(error: BaseException) -> str:
    return f"the database cannot be used: {reason(error)}"
