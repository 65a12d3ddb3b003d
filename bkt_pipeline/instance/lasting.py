"""Retries what Dagster's storage does when its database fails for a moment, as `db.retry` does for the platform's.

Dagster retries a connect for some seconds, but no statement, so a connection that is dropped during one would end the run.
"""

import inspect
import random
import threading
import time
from collections.abc import Callable, Collection
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar

import psycopg2
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.db.connection import RetryBudget
from bkt_pipeline.db.retry import may_pass
from bkt_pipeline.settings import settings

T = TypeVar("T")
Storage = TypeVar("Storage")

# Of this process. Refilled by each success, so an outage is waited for once and not by every call.
_budget = RetryBudget(0)
_within = threading.local()


def driver_error(error: BaseException) -> psycopg2.Error | None:
    """The error of psycopg2, which only Dagster's storage uses, behind one of Dagster's or SQLAlchemy's; else None."""
    cause = error.__cause__ if isinstance(error, DagsterPostgresException) else error
    cause = cause.orig if isinstance(cause, DBAPIError) else cause
    return cause if isinstance(cause, psycopg2.Error) else None


def is_transient(error: psycopg2.Error) -> bool:
    """Whether the same statement may succeed when it is tried again."""
    lost = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    return may_pass(error.pgcode, str(error)) if error.pgcode or lost else False


def retried(work: Callable[[int], T]) -> T:
    """Do `work`, which gets the number of the try; retry it after transient failures, with backoff and jitter.

    It retries for BKT_RETRY_SECONDS. Work within other work fails with it and is retried with it.
    """
    if getattr(_within, "other", False):
        return work(1)
    _within.other = True
    try:
        return _retry(work)
    finally:
        _within.other = False


def _retry(work: Callable[[int], T]) -> T:
    tries = 0
    while True:
        started, tries = time.monotonic(), tries + 1
        try:
            result = work(tries)
        except (DBAPIError, DagsterPostgresException) as error:
            cause = driver_error(error)
            if cause is None or not is_transient(cause):
                raise
            _budget.spend(time.monotonic() - started)
            if _budget.left <= 0:
                raise
            pause = min(_budget.left, random.uniform(0.05, min(5.0, 0.1 * 2**tries)))
            time.sleep(pause)
            _budget.spend(pause)
        else:
            _budget.seconds = settings().retry_seconds
            _budget.reset()
            return result


def lasting(*, except_for: Collection[str]) -> Callable[[type[Storage]], type[Storage]]:
    """A class decorator: retry every public method of a storage, but for those that may not be done twice."""

    def decorate(kind: type[Storage]) -> type[Storage]:
        for name in dir(kind):
            method = inspect.getattr_static(kind, name)
            if name.startswith("_") or name in except_for or not isinstance(method, FunctionType):
                continue
            if not inspect.isgeneratorfunction(inspect.unwrap(method)):
                setattr(kind, name, _retrying(method))
        return kind

    return decorate


def _retrying(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        return retried(lambda _: method(*args, **kwargs))

    return call
