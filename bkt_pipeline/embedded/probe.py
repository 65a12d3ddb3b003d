"""Checks whether a server answers, with the first messages of the Postgres protocol."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from bkt_pipeline.embedded.sockets import PORT

_NOBODY_THERE = "08001"
_NOT_ACCEPTING = "57P03"
DATABASE_MISSING = "3D000"


def knock(sockets: Path, database: str = "postgres") -> str:
    """The SQLSTATE of the server's answer to a new session, which is closed immediately; "00000" for success.

    This does not use a driver, which would read the environment and take time to import in a process that only needs to
    know whether a server is running.
    """
    startup = (196608).to_bytes(4, "big") + f"user\0postgres\0database\0{database}\0\0".encode()
    try:
        with socket.socket(socket.AF_UNIX) as session:
            session.settimeout(5)
            session.connect(str(sockets / f".s.PGSQL.{PORT}"))
            session.sendall((len(startup) + 4).to_bytes(4, "big") + startup)
            with session.makefile("rb") as answers:
                while kind := answers.read(1):
                    if kind == b"Z":
                        session.sendall(b"X\0\0\0\4")
                        return "00000"
                    body = answers.read(int.from_bytes(answers.read(4), "big") - 4)
                    if kind == b"E":
                        sqlstate = re.search(rb"\0C([0-9A-Z]{5})\0", body)
                        return sqlstate[1].decode() if sqlstate else _NOBODY_THERE
    except OSError:
        pass
    return _NOBODY_THERE


def is_ready(sqlstate: str) -> bool:
    """Whether the server is running. Any other error, such as "too many clients", comes from a running server."""
    return sqlstate not in (_NOBODY_THERE, _NOT_ACCEPTING)
