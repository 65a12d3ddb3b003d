"""Converts Postgres URLs, in any form that users write them, for each driver."""

import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from bkt_pipeline.errors import InvalidSettings

CONNECT_SECONDS = 10


# Detects a lost peer within a minute. Seconds, except tcp_user_timeout, which is in milliseconds.
KEEPALIVE: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


_DRIVER = re.compile(r"^(postgres(?:ql)?)(\+\w+)?://")


_UNREADABLE = (
    "the database URL cannot be read as a Postgres URL; expected postgresql://user:password@host:5432/name "
    "(special characters in the password percent-encoded)"
)


# Parameters that Prisma, Rails, Doctrine, node-postgres and JDBC put into URLs and that libpq refuses. Messages name only
# these, because any other word could be part of a password that is not percent-encoded.
_OF_OTHER_DRIVERS = re.compile(
    r"[?&](schema|currentSchema|search_path|connection_limit|pool_timeout|socket_timeout|statement_cache_size|pgbouncer|"
    r"sslaccept|sslidentity|sslpassword_file|ssl|pool|pool_size|max_connections|min_connections|checkout_timeout|"
    r"idle_timeout|reaping_frequency|prepared_statements|advisory_locks|encoding|reconnect|timeout|variables|"
    r"single_use_connections|serverVersion|charset|useSSL|uselibpqcompat|targetServerType|stringtype|ApplicationName)"
    r"=[^&@]*(?=&|$)",
    re.IGNORECASE,
)
_FOR_SCHEMA = "; set BKT_SOURCE_SCHEMA to the schema of the platform's tables instead"


def libpq_url(url: str) -> str:
    """Convert any form of Postgres URL (``postgres://``, with a driver name, or ``host=… dbname=…``) for libpq.

    Raises
    ------
    InvalidSettings
        This is not a Postgres URL, it has parameters of another driver, or its password is not percent-encoded, so
        that parts of the password could appear in messages.
    """
    plain = _DRIVER.sub("postgresql://", url.strip())
    try:
        parts = conninfo_to_dict(plain)
    except psycopg.ProgrammingError:
        if found := _OF_OTHER_DRIVERS.search(plain):
            name = found[1]
            raise InvalidSettings(
                f"the database URL has the parameter {name}, which Postgres does not know; remove it"
                + (_FOR_SCHEMA if name.lower() in ("schema", "currentschema", "search_path") else "")
            ) from None
        # Not chained: the cause quotes the string, including the password.
        raise InvalidSettings(_UNREADABLE) from None
    misread = (
        not re.fullmatch(r"[0-9,]*", str(parts.get("port", "")))
        or re.search(r"[@?#\s]", str(parts.get("host", "")).removeprefix("@"))
        or "@" in str(parts.get("dbname", ""))
    )
    if misread:
        raise InvalidSettings(_UNREADABLE)
    return plain


def platform_name(url: str) -> str:
    """Host, port and database of a URL, as a name for the platform that is the same for every role.

    Parts that the URL leaves out come from libpq's environment variables, as for a connection.
    """
    defaults = {
        option.keyword.decode(): option.val.decode() for option in Conninfo.get_defaults() if option.val
    }
    parts = defaults | conninfo_to_dict(libpq_url(url))
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    database = parts.get("dbname") or parts.get("service") or parts.get("user")
    return f"{host}:{parts['port']}/{database}"


def psycopg2_url(url: str) -> str:
    """Convert the URL for dagster-postgres. The driver is named, since SQLAlchemy 2.1 uses psycopg 3 by default."""
    plain = libpq_url(url)
    if not plain.startswith("postgresql://"):
        plain = _as_url(conninfo_to_dict(plain))
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


def _as_url(parts: Mapping[str, Any]) -> str:
    names = {"user": "username", "password": "password", "dbname": "database"}
    own = {ours: parts[name] for name, ours in names.items() if name in parts}
    query = {name: str(value) for name, value in parts.items() if name not in names}
    return URL.create("postgresql", **own, query=query).render_as_string(hide_password=False)
