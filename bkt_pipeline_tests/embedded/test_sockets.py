"""The server, its socket and its pid file against another user of the machine."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from bkt_pipeline.embedded import supervisor
from bkt_pipeline.embedded.folders import account_for
from bkt_pipeline.embedded.libpq import url
from bkt_pipeline.embedded.server import ensure, release
from bkt_pipeline.embedded.sockets import check_socket_folder, open_socket_folder
from bkt_pipeline.errors import EmbeddedPostgresError
from bkt_pipeline_tests.helpers.folders import delete

FAST = ("fsync=off", "autovacuum=off")
PYTHON = shutil.which("python3", path="/usr/local/bin:/usr/bin")
HOSTILE = "daemon"  # an account that every system has and no server runs as

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user"),
    pytest.mark.skipif(PYTHON is None, reason="no Python that every user may run"),
]


def as_hostile(script: str, *arguments: object) -> "subprocess.Popen[str]":
    """A program of the other user, which prints a line when it is ready."""
    process = subprocess.Popen(
        [str(PYTHON), "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        user=HOSTILE,
        group=HOSTILE,
        extra_groups=[],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def output_of(process: "subprocess.Popen[str]") -> str:
    """What it says after "ready"."""
    with process:
        assert process.stdout is not None
        return process.stdout.read()


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder as /tmp is."""
    folder = Path(tempfile.mkdtemp(prefix="bkt-public-"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["a folder", "an open folder", "a link", "a file"])
def trap(request: pytest.FixtureRequest, public: Path) -> Path:
    """What another user has put where the socket's folder would be."""
    target = public / "of-root"
    target.mkdir(mode=0o700)
    make = {
        "a folder": "os.mkdir(path, 0o700)",
        "an open folder": "os.mkdir(path); os.chmod(path, 0o777)",
        "a link": f"os.symlink({str(target)!r}, path)",
        "a file": "open(path, 'w').close()",
    }[request.param]
    script = f"import os, sys; path = sys.argv[1]; {make}; print('ready', flush=True)"
    with as_hostile(script, public / "sockets"):
        pass
    return public / "sockets"


@pytest.mark.parametrize("account", [None, (65_534, 65_534)])
def test_what_another_user_has_put_there_is_refused_and_not_touched(
    trap: Path, account: tuple[int, int] | None
) -> None:
    before = trap.lstat(), (trap.parent / "of-root").stat()
    with pytest.raises(EmbeddedPostgresError, match="private folder"):
        open_socket_folder(trap, account)
    with pytest.raises(EmbeddedPostgresError, match="private folder"):
        check_socket_folder(trap, 0 if account is None else account[0])
    assert (trap.lstat(), (trap.parent / "of-root").stat()) == before


def test_a_folder_of_our_own_is_private_and_goes_to_the_servers_account(public: Path) -> None:
    account = (65_534, 65_534)
    os.close(open_socket_folder(public / "sockets", account))
    found = (public / "sockets").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (*account, 0o700)
    check_socket_folder(public / "sockets", account[0])


def test_a_server_of_another_user_never_gets_a_query(public: Path) -> None:
    script = """
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
server.listen()
print("ready", flush=True)
session, _ = server.accept()
print(session.recv(100), flush=True)
"""
    process = as_hostile(script, public / ".s.PGSQL.5432")
    with pytest.raises(psycopg.OperationalError, match="requirepeer"):
        psycopg.connect(url(public, "postgres", 0))
    assert output_of(process) == "b''\n"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bkt-hostile-"))
    folder.chmod(0o711)
    yield folder
    release(folder)
    delete(folder)


def test_another_user_who_reaches_the_socket_may_not_log_in(home: Path) -> None:
    sockets = Path(parse_qs(urlsplit(ensure(home, options=FAST, linger=0.2)).query)["host"][0])
    socket = sockets / ".s.PGSQL.5432"
    script = """
import socket, sys
session = socket.socket(socket.AF_UNIX)
session.connect(sys.argv[1])
startup = (196608).to_bytes(4, "big") + b"user\\0postgres\\0database\\0postgres\\0\\0"
session.sendall((len(startup) + 4).to_bytes(4, "big") + startup)
print("ready", flush=True)
print(session.recv(1000), flush=True)
"""
    try:
        sockets.chmod(0o711)
        socket.chmod(0o777)
        answer = output_of(as_hostile(script, socket))
    finally:
        sockets.chmod(0o700)
    assert "C28000" in answer


def test_a_data_folder_that_trusted_everyone_does_so_no_longer(home: Path) -> None:
    with psycopg.connect(ensure(home, options=FAST, linger=0.2)) as connection:
        (home / "postgres/pgdata/pg_hba.conf").write_text("local all all trust\n")
        connection.execute("SELECT pg_reload_conf()")
        rules = connection.execute("SELECT type, auth_method FROM pg_hba_file_rules").fetchall()
    assert rules == [("local", "peer")]


@pytest.mark.parametrize("pid", ["victim", "0", "1", "-1"])
def test_roots_supervisor_signals_nothing_that_the_servers_account_could_not(home: Path, pid: str) -> None:
    ensure(home, options=FAST, linger=0.2)
    folder = home / "postgres"
    pid_file = folder / "pgdata" / "postmaster.pid"
    right = pid_file.read_text()
    account = account_for(folder)
    assert account is not None
    assert account[0] != 0
    with subprocess.Popen(["sleep", "600"]) as victim:
        lines = right.splitlines(keepends=True)
        try:
            pid_file.write_text("".join([f"{victim.pid if pid == 'victim' else pid}\n", *lines[1:]]))
            supervisor._stop_adopted(folder, "immediate")
            assert victim.poll() is None
        finally:
            pid_file.write_text(right)
            victim.kill()
    with contextlib.closing(psycopg.connect(ensure(home))) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
