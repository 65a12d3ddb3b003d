"""deploy/compose without Docker: its services as processes, in order, until their health checks pass; then a night."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from bkt_pipeline_tests.conftest import PROJECT, Databases
from bkt_pipeline_tests.helpers.processes import end_group, listening
from bkt_pipeline_tests.helpers.ui import free_port

pytest.importorskip("dagster_webserver", reason="the extra `ui` is not installed")

COMPOSE = PROJECT / "deploy/compose"
BIN = Path(sys.executable).parent
SERVICES: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
TIMEOUT = 300  # seconds; a busy machine starts processes slowly


def interpolated(text: str) -> str:
    """The text as Compose reads it if no variable is set: with the defaults."""
    return re.sub(r"\$\$|\$\{\w+:-([^}]*)\}", lambda found: "$" if found[0] == "$$" else found[1], text)


def test_what_the_services_refer_to_exists() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (COMPOSE / source).is_file(), source
    build = SERVICES["code"]["build"]
    assert (COMPOSE / build["context"]).resolve() == PROJECT
    assert f" AS {build['target']}\n" in (PROJECT / build["dockerfile"]).read_text()
    workspace = yaml.safe_load((COMPOSE / "workspace.yaml").read_text())["load_from"][0]["grpc_server"]
    assert workspace["host"] in SERVICES
    assert str(workspace["port"]) in SERVICES[workspace["host"]]["command"]


class Containers:
    """The services as processes on this machine, with two databases in place of the service `postgres`."""

    def __init__(self, folder: Path, urls: dict[str, str]) -> None:
        self.folder = folder
        self.urls = urls
        self.ports = {"4000": str(free_port()), "3000": str(free_port())}
        self.log = folder / "log"
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        home = folder / "opt"
        home.mkdir()
        (home / "dagster.yaml").write_bytes((PROJECT / "dagster.yaml").read_bytes())
        workspace = (COMPOSE / "workspace.yaml").read_text().replace("host: code", "host: localhost")
        (home / "workspace.yaml").write_text(workspace.replace("4000", self.ports["4000"]))

    def here(self, words: list[str]) -> list[str]:
        """A command as it is on this machine, with other ports."""
        program, *arguments = map(interpolated, words)
        for port, other in self.ports.items():
            arguments = [re.sub(rf"\b{port}\b", other, word) for word in arguments]
        return [program, *arguments]

    def start(self, service: str, command: list[str]) -> subprocess.Popen[bytes]:
        environment = {name: interpolated(value) for name, value in SERVICES[service]["environment"].items()}
        environment |= {"DATABASE_URL": self.urls["platform"], "DAGSTER_POSTGRES_URL": self.urls["dagster"]}
        keep = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        keep["PATH"] = os.pathsep.join([str(BIN), os.environ["PATH"]])
        home = {"DAGSTER_HOME": str(self.folder / "opt"), "BKT_PIPELINE_HOME": str(self.folder / "home")}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.here(command),
                env={**keep, **home, **environment, "PYTHONPATH": str(PROJECT)},
                cwd=self.folder / "opt",
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, service: str, command: list[str]) -> int:
        return self.start(service, command).wait(TIMEOUT)

    def up(self, service: str) -> None:
        self.running[service] = self.start(service, SERVICES[service]["command"])
        deadline = time.monotonic() + TIMEOUT
        check = SERVICES[service]["healthcheck"]["test"]
        assert check[0] == "CMD"
        # Each health check is another process that loads Dagster, so first wait until the service listens.
        words = " ".join(SERVICES[service]["command"])
        ports = [int(port) for name, port in self.ports.items() if name in words]
        while any(not listening(port) for port in ports) and self.running[service].poll() is None:
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.2)
        while self.run(service, check[1:]) != 0:
            assert self.running[service].poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.5)

    def stop(self) -> None:
        for process in reversed(self.running.values()):
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            end_group(process)


@pytest.fixture
def containers(databases: Databases, tmp_path: Path) -> Iterator[Containers]:
    urls = {"platform": databases.create(), "dagster": databases.create()}
    with psycopg.connect(urls["platform"]) as connection:
        connection.execute((COMPOSE / "school.sql").read_text())
    containers = Containers(tmp_path, urls)
    yield containers
    containers.stop()
    for url in urls.values():
        databases.drop(url)


@pytest.mark.slow
def test_the_services_become_healthy_one_after_another_and_a_night_runs(containers: Containers) -> None:
    assert containers.run("migrate", SERVICES["migrate"]["command"]) == 0, containers.log.read_text()
    for service in ("code", "webserver", "daemon"):
        containers.up(service)
    night = ["bkt-pipeline", "nightly", "--skip-irt"]
    assert containers.run("code", night) == 0, containers.log.read_text()[-3000:]
    with psycopg.connect(containers.urls["platform"]) as platform:
        assert platform.execute("SELECT count(*) FROM skill_bkt_params").fetchone() == (12,)
