"""A whole night through PgBouncer in transaction mode, which may give each transaction a different server connection."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from bkt_pipeline_tests.conftest import Platform, database_of
from bkt_pipeline_tests.helpers.nights import Night
from bkt_pipeline_tests.helpers.schools import enrol
from bkt_pipeline_tests.helpers.state import snapshot

# Debian installs it in a folder that is only on root's PATH.
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = pytest.mark.skipif(
    PGBOUNCER is None, reason="pgbouncer is not installed (apt-get install pgbouncer)"
)


@pytest.fixture
def pooler(server_url: str) -> Iterator[int]:
    """The port of a PgBouncer that shares two server connections among all clients."""
    query = parse_qs(urlsplit(server_url).query)
    sockets = Path(query["host"][0])
    folder = Path(tempfile.mkdtemp(prefix="bkt-pooler-"))
    folder.chmod(0o755)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    (folder / "pgbouncer.ini").write_text(
        f"""
        [databases]
        * = host={sockets} port={query["port"][0]} user=postgres
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = any
        pool_mode = transaction
        default_pool_size = 2
        """
    )
    process = subprocess.Popen(
        [str(PGBOUNCER), str(folder / "pgbouncer.ini")],
        # It refuses to run as root, and needs access to the server's socket.
        user=sockets.stat().st_uid if os.geteuid() == 0 else None,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.communicate()
        shutil.rmtree(folder)


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_a_night_succeeds_and_leaves_no_settings_on_shared_connections(
    platform: Platform, pooler: int, make_night: Callable[[Platform], Night]
) -> None:
    enrol(platform, [20, 20, 20, 20, 3])
    calm, night = make_night(platform), make_night(platform)
    calm.undisturbed()
    url = f"postgresql://postgres@127.0.0.1:{pooler}/{database_of(night.url)}"
    night.environment["DATABASE_URL"] = url
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as other:
        other.execute("SELECT 1")
        children = [night.start() for _ in range(2)]
        seen, backends = set(), set()
        while any(child.is_alive() for child in children):
            row = other.execute(
                "SELECT pg_backend_pid(), current_setting('statement_timeout'), current_setting('lock_timeout')"
            ).fetchone()
            assert row is not None
            backends.add(row[0])
            seen.add(row[1:])
            time.sleep(0.01)
        codes = [night.ends(child) for child in children]
        # A night that the other one overtakes whole has calibrated nothing, which is exit code 1.
        assert sorted(code for code, _ in codes) in ([0, 0], [0, 1]), codes
    assert seen == {("0", "0")}
    assert len(backends) > 1, "the pooler used only one server connection"
    assert snapshot(night.url) == snapshot(calm.url)
