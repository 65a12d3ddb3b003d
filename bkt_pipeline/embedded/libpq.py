"""The embedded server's URL, which does not depend on the environment.

libpq takes parameters that are missing in a URL from variables such as PGHOSTADDR, which could send students' answers to
another server. So the URL sets every parameter that has a variable. Four variables have no parameter, and
`unset_variables` removes them from this process.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote, urlencode

from bkt_pipeline.embedded.folders import user_name
from bkt_pipeline.embedded.sockets import PORT

# An empty value counts as unset but still overrides the variable.
_PARAMETERS = {
    "hostaddr": "",
    "password": "",
    # No file can have this name, whatever folders the machine has.
    "passfile": f"{os.devnull}/none",
    "require_auth": "none",
    "channel_binding": "prefer",
    "connect_timeout": "10",
    "client_encoding": "UTF8",
    "options": "-ctimezone=UTC",
    "application_name": "bkt-pipeline",
    "sslmode": "disable",
    "sslcompression": "0",
    "sslcert": "",
    "sslkey": "",
    "sslcertmode": "allow",
    "sslrootcert": "",
    "sslcrl": "",
    "sslcrldir": "",
    "sslsni": "1",
    "ssl_min_protocol_version": "",
    "ssl_max_protocol_version": "",
    "gssencmode": "disable",
    "krbsrvname": "postgres",
    "gsslib": "",
    "gssdelegation": "0",
    "target_session_attrs": "any",
    "load_balance_hosts": "disable",
}
# New in libpq 17 and 18; older versions refuse them.
NEWER_PARAMETERS = {
    "sslnegotiation": "postgres",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
}
_WITHOUT_PARAMETER = ("PGDATESTYLE", "PGTZ", "PGGEQO")
_SERVICE = "PGSERVICE"


def url(sockets: Path, database: str, user: int) -> str:
    """The URL of `database`, for libpq 16 and newer.

    libpq also verifies that the process at the other end of the socket belongs to the server's `user`.
    """
    parameters = {"host": str(sockets), "port": str(PORT), "requirepeer": user_name(user)}
    return f"postgresql://postgres@/{database}?{_query(parameters | _PARAMETERS)}"


def with_newer_parameters(url: str, known: Collection[str]) -> str:
    """The URL for a driver whose libpq knows the parameters `known`."""
    newer = {name: value for name, value in NEWER_PARAMETERS.items() if name in known}
    return f"{url}&{_query(newer)}" if newer else url


def known_to_psycopg() -> set[str]:
    """The parameters that psycopg's libpq knows."""
    from psycopg.pq import Conninfo

    return {option.keyword.decode() for option in Conninfo.get_defaults()}


def unset_variables(*, service: bool) -> None:
    """Remove the variables without a parameter from this process and its future children.

    If the process also has a URL from the user, pass `service=False` to keep PGSERVICE, which may belong to that URL. A
    service never overrides the parameters of our URL. The other three variables only change how a session prints dates,
    reads time zones and plans joins, and nothing here depends on that.

    The variables are removed permanently. Removing them only during each connection would affect other threads and
    child processes.
    """
    for name in (*_WITHOUT_PARAMETER, *([_SERVICE] if service else [])):
        os.environ.pop(name, None)


def _query(parameters: dict[str, str]) -> str:
    return urlencode(parameters, quote_via=quote, safe="/")
