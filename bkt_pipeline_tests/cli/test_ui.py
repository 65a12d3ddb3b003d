"""`bkt-pipeline ui`: where it listens, what it warns of, what its processes show."""

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bkt_pipeline_tests.conftest import PROJECT, Platform
from bkt_pipeline_tests.helpers.nights import Night
from bkt_pipeline_tests.helpers.processes import COMMAND, PROC, ProcessList, end_group, listening
from bkt_pipeline_tests.helpers.schools import enrol
from bkt_pipeline_tests.helpers.secrets import PASSWORD, secret

PATIENCE = 300  # seconds; a busy machine starts processes slowly
LOOPBACK, EVERYWHERE = "0100007F", "00000000"  # as the kernel writes them


@pytest.mark.skipif(not PROC.exists(), reason="no /proc to see who listens where")
@pytest.mark.parametrize(
    ("options", "address", "warns"), [([], LOOPBACK, False), (["--host", "0.0.0.0"], EVERYWHERE, True)]
)
def test_it_listens_where_it_was_told_and_warns_that_nobody_has_to_log_in(
    platform: Platform,
    make_night: Callable[[Platform], Night],
    tmp_path: Path,
    options: list[str],
    address: str,
    warns: bool,
) -> None:
    pytest.importorskip("dagster_webserver", reason="the extra `ui` is not installed")
    enrol(platform, [3])
    night = make_night(platform)
    urls = {name: secret(night.environment[name]) for name in ("DATABASE_URL", "DAGSTER_POSTGRES_URL")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "err").open("wb") as err, ProcessList() as processes:
        process = subprocess.Popen(
            [*COMMAND, "ui", "--port", str(port), *options],
            env={**os.environ, **night.environment, **urls, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.DEVNULL,
            stderr=err,
            start_new_session=True,
        )
        try:
            end = time.monotonic() + PATIENCE
            while not listening(port) and process.poll() is None and time.monotonic() < end:
                time.sleep(0.1)
            found = listening(port)
        finally:
            end_group(process)
    said = (tmp_path / "err").read_text()
    assert found == {address}, said
    warning = f"Dagster's UI has no login: whoever reaches 0.0.0.0:{port} can start runs"
    assert (warning in said) == warns
    assert any("dagster_webserver" in line for line in processes.seen)
    assert [line for line in processes.seen if PASSWORD in line] == []
    assert PASSWORD not in said
