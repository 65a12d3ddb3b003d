"""Replaces pooled connections of Dagster's storage that the server has closed, or that cannot be used any more."""

import select
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Psycopg2Connection
from sqlalchemy import Engine, ExceptionContext, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import Pool

from bkt_pipeline.instance.lasting import is_transient


def replace_lost_connections() -> None:
    """Check each connection when it leaves a pool of this process; if it is lost, Dagster's storage connects again.

    A connection on which a statement failed for a transient reason is replaced too, because the reason may be the
    server behind it, such as one that became a standby. Dagster's engines cannot be configured, so the listeners are
    called for all, but they only look at psycopg2, which only Dagster's storage uses.
    """
    if not event.contains(Pool, "checkout", _refuse_lost):
        event.listen(Pool, "checkout", _refuse_lost)
        event.listen(Engine, "handle_error", _discard_failed)


def _refuse_lost(connection: Any, record: object, proxy: object) -> None:
    if not isinstance(connection, Psycopg2Connection):
        return
    # An idle connection has nothing to read unless the server has closed it or sent a notice.
    readable, _, _ = select.select([connection], [], [], 0)
    if not readable:
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except psycopg2.Error:
        raise DisconnectionError from None


def _discard_failed(context: ExceptionContext) -> None:
    error = context.original_exception
    if isinstance(error, psycopg2.Error) and is_transient(error):
        context.is_disconnect = True
