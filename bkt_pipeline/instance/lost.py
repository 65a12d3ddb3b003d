"""Replaces pooled connections of Dagster's storage that the server has closed, before they are used again."""

import select
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Psycopg2Connection
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import Pool


def replace_lost_connections() -> None:
    """Check each connection when it leaves a pool of this process; if it is lost, Dagster's storage connects again.

    Dagster's engines cannot be configured, and Dagster does not retry statements, so a server that restarts or drops
    idle connections would end every run. The listener is called for all pools, but checks only connections of psycopg2,
    which only Dagster's storage uses.
    """
    if not event.contains(Pool, "checkout", _refuse_lost):
        event.listen(Pool, "checkout", _refuse_lost)


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
