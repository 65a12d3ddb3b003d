"""Connections to the database over TLS: sslmode=verify-full with a private certificate authority."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.nights import Night, copy_source
from bkt_pipeline_tests.helpers.schools import enrol
from bkt_pipeline_tests.helpers.state import snapshot

MakeNight = Callable[[Platform], Night]
# The embedded server's binaries are built without TLS.
SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
PASSWORD = "Pa55-of-the-nights"

pytestmark = pytest.mark.skipif(
    not SERVERS or shutil.which("openssl") is None,
    reason="no Postgres with TLS, or no openssl, is installed (apt-get install postgresql openssl)",
)


@dataclass(frozen=True)
class Secured:
    """A server that accepts only TLS connections with a password."""

    port: int
    authority: Path
    another_authority: Path

    def url(self, host: str = "localhost", authority: Path | None = None) -> str:
        return (
            f"postgresql://postgres:{PASSWORD}@{host}:{self.port}/postgres"
            f"?sslmode=verify-full&sslrootcert={authority or self.authority}"
        )


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_authority(folder: Path, name: str) -> Path:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(
        folder, "req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}",
        "-days", "2",
    )  # fmt: skip
    return folder / f"{name}.pem"


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    folder = Path(tempfile.mkdtemp(prefix="bkt-tls-"))
    folder.chmod(0o755)
    authorities = [make_authority(folder, name) for name in ("authority", "another")]
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(folder, "req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    openssl(
        folder, "x509", "-req", "-in", "server.csr", "-CA", "authority.pem", "-CAkey", "authority.key",
        "-CAcreateserial", "-out", "server.pem", "-days", "2", "-extfile", "names",
    )  # fmt: skip
    account = pwd.getpwnam("nobody").pw_uid
    user = account if os.geteuid() == 0 else None

    def run(command: Sequence[str | Path]) -> None:
        subprocess.run(command, user=user, cwd="/", check=True, capture_output=True)

    data = folder / "server"
    data.mkdir()
    (folder / "password").write_text(PASSWORD)
    for path in (data, folder / "server.key", folder / "server.pem"):
        shutil.chown(path, user if user is not None else os.geteuid())
    (folder / "server.key").chmod(0o600)
    binaries = SERVERS[-1].parent
    run(
        [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            "--pwfile",
            folder / "password",
        ]
    )
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    server = subprocess.Popen(
        [
            binaries / "postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1",
            "-c", "unix_socket_directories=", "-c", "ssl=on", "-c", f"ssl_cert_file={folder / 'server.pem'}",
            "-c", f"ssl_key_file={folder / 'server.key'}", "-c", "fsync=off",
        ],
        user=user,
        cwd="/",
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    made = Secured(port, *authorities)
    try:
        wait_for(made.url())
        yield made
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


def test_a_night_over_verified_tls(platform: Platform, make_night: MakeNight, secured: Secured) -> None:
    enrol(platform, [20, 3])
    calm, night = make_night(platform), make_night(platform)
    calm.undisturbed()
    copy_source(platform.url, secured.url())
    night.environment["DATABASE_URL"] = secured.url()
    code, output = night.ends(night.start())
    assert code == 0, output
    assert snapshot(secured.url()) == snapshot(calm.url)


def test_a_server_with_the_wrong_certificate_is_refused_without_retries(
    platform: Platform, make_night: MakeNight, secured: Secured
) -> None:
    night = make_night(platform)
    for url, why in (
        (secured.url(authority=secured.another_authority), "certificate verify failed"),
        (secured.url(host="127.0.0.1"), 'does not match host name "127.0.0.1"'),
    ):
        night.environment["DATABASE_URL"] = url
        code, output = night.ends(night.start())
        assert code == 2
        (line,) = output.splitlines()
        assert line.startswith("bkt-pipeline nightly: the database cannot be used: ")
        assert why in line
        assert "gave up" not in line
        assert PASSWORD not in line


def test_a_connection_without_tls_is_refused(
    platform: Platform, make_night: MakeNight, secured: Secured
) -> None:
    night = make_night(platform)
    night.environment["DATABASE_URL"] = secured.url().replace("verify-full", "disable")
    code, output = night.ends(night.start())
    assert code == 2
    assert "no encryption" in output
