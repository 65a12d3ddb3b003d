"""`bkt-pipeline ui`: where it listens, what it refuses, what its processes show, and that they end."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from bkt_pipeline.cli.main import main
from bkt_pipeline_tests.conftest import PROJECT, Platform
from bkt_pipeline_tests.helpers.nights import Night
from bkt_pipeline_tests.helpers.processes import PROC, ProcessList, descendants, is_alive, listening
from bkt_pipeline_tests.helpers.schools import enrol
from bkt_pipeline_tests.helpers.secrets import PASSWORD, secret
from bkt_pipeline_tests.helpers.ui import TIMEOUT, running_ui

pytestmark = pytest.mark.slow

pytest.importorskip("dagster_webserver", reason="the extra `ui` is not installed")

LOOPBACK, EVERYWHERE = "0100007F", "00000000"  # as the kernel writes them
NO_DATABASE = "postgresql://127.0.0.1:1/none"
MakeNight = Callable[[Platform], Night]


def environment_of(night: Night) -> dict[str, str]:
    urls = {name: secret(night.environment[name]) for name in ("DATABASE_URL", "DAGSTER_POSTGRES_URL")}
    return {**os.environ, **night.environment, **urls, "PYTHONPATH": str(PROJECT)}


@pytest.mark.parametrize("port", ["0", "65536", "70000", "-1", "three", "", "３０００", "30_00"])
def test_an_invalid_port_is_refused_before_anything_starts(
    port: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", NO_DATABASE)
    assert main(["ui", f"--port={port}"]) == 2
    out, err = capfd.readouterr()
    assert err == f"bkt-pipeline ui: --port is {port!r}; it must be a whole number from 1 to 65535\n"
    assert out == ""


def test_a_taken_port_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", NO_DATABASE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["ui", "--port", str(port)]) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"bkt-pipeline ui: cannot listen on 127.0.0.1:{port}: Address already in use; ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("options", [["--host", "no.such.host.invalid"], ["--public-url", "bkt.example.org"]])
def test_an_address_that_is_not_one_is_refused(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", NO_DATABASE)
    assert main(["ui", *options]) == 2
    err = capfd.readouterr().err
    assert options[1] in err
    assert err.count("\n") == 1


@pytest.mark.skipif(not PROC.exists(), reason="no /proc to see processes and who listens where")
@pytest.mark.parametrize(
    ("options", "address", "ended_by", "ignored", "code"),
    [
        # A shell has its background jobs ignore SIGINT, and Dagster has SIGTERM do what SIGINT does.
        ([], LOOPBACK, signal.SIGTERM, signal.SIGINT, 0),
        (["--host", "0.0.0.0"], EVERYWHERE, signal.SIGKILL, None, -signal.SIGKILL),
    ],
)
def test_it_listens_where_it_should_shows_no_secret_and_leaves_no_process_even_while_a_run_hangs(
    platform: Platform,
    make_night: MakeNight,
    tmp_path: Path,
    options: list[str],
    address: str,
    ended_by: signal.Signals,
    ignored: signal.Signals | None,
    code: int,
) -> None:
    enrol(platform, [3])
    night = make_night(platform)
    before = signal.signal(ignored, signal.SIG_IGN) if ignored else None
    try:
        with (
            ProcessList() as processes,
            running_ui(environment_of(night), tmp_path, *options) as ui,
            psycopg.connect(night.url) as connection,
        ):
            assert listening(ui.port) == {address}
            connection.execute("LOCK TABLE skills IN ACCESS EXCLUSIVE MODE")
            ui.launch("active_skills_job")
            wait_until(lambda: someone_waits_for_a_lock(night.url))
            children = descendants(ui.process.pid)
            assert len(children) >= 4
            ui.process.send_signal(ended_by)
            assert ui.process.wait(TIMEOUT) == code
            if ended_by == signal.SIGKILL:
                wait_until(lambda: not any(map(is_alive, children)))
            assert [pid for pid in children if is_alive(pid)] == []
    finally:
        if ignored:
            signal.signal(ignored, before)
    output = ui.log.read_text()
    assert ("put a proxy with TLS and a login in front of it" in output) == (address == EVERYWHERE)
    assert output.count(ui.secret) == 1
    assert any("bkt_pipeline.cli.service" in line for line in processes.seen)
    assert [line for line in processes.seen if PASSWORD in line or ui.secret in line] == []
    assert PASSWORD not in output


def someone_waits_for_a_lock(url: str) -> bool:
    with psycopg.connect(url) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return connection.execute(query).fetchone() != (0,)


def wait_until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not happened():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.2)
