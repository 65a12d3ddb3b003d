"""`bkt-pipeline ui`: Dagster's UI and daemon on this machine, for whoever has the address that it prints.

Three processes: this one, which holds the port and ends the others; the web server behind the guard; the
daemon. Each of the two is a service (see service.py) in a session of its own.
"""

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bkt_pipeline.cli.folder import environment_for_services
from bkt_pipeline.cli.service import STOP_SECONDS
from bkt_pipeline.errors import InvalidSettings

LOCAL = "127.0.0.1"
PORT = 3000
DONE, STOPPED = 0, 1
BACKLOG = 128


def add_command(commands: Any) -> None:
    """Add `ui` to the command line."""
    ui = commands.add_parser(
        "ui",
        help="open the Dagster UI on the same database",
        description="Starts Dagster's web server and daemon on this machine (Ctrl-C stops them) and prints the "
        "address to open. The address holds a secret that is new at every start; without it the UI answers "
        "nobody. The daemon runs the night at 07:00 UTC while this command runs.",
    )
    ui.add_argument(
        "--host",
        default=LOCAL,
        help=f"address to listen on (default: {LOCAL}). The traffic is not encrypted: on any other address put a "
        "proxy with TLS and a login before it",
    )
    # Read in run_ui, so that an invalid one is reported in one line like any other setting.
    ui.add_argument("--port", default=str(PORT), help=f"port to listen on (default: {PORT})")
    ui.add_argument(
        "--public-url",
        metavar="URL",
        help="where browsers find the UI if a proxy is before it, such as https://bkt.example.org",
    )
    ui.set_defaults(run=run_ui)


def run_ui(options: argparse.Namespace) -> int:
    """Start the web server and the daemon, print the address, and wait until something ends them."""
    if find_spec("dagster_webserver") is None:
        raise InvalidSettings("the package dagster-webserver is missing; pip install 'bkt_pipeline[ui]'")
    from bkt_pipeline.cli.guard import TOKEN, Address, loopback_addresses, read_address
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.instance.storage import use_dagster_home

    port = read_port(options.port)
    public = read_address(options.public_url) if options.public_url else None
    with ExitStack() as stack:
        # First of all: a taken port must not cost a second daemon on the same storage.
        sockets = [stack.enter_context(one) for one in listen(options.host, port)]
        open_database().close()
        workspace = workspace_file(use_dagster_home())
        named = Address("http", options.host, port)
        shown = public or named
        secret = secrets.token_urlsafe(32)
        web = {
            "workspace": workspace,
            "sockets": [one.fileno() for one in sockets],
            "addresses": [astuple(one) for one in {named, shown, *loopback_addresses(port)}],
            "secret": secret,
            "cookie": f"bkt_pipeline_{port}",
        }
        services = stack.enter_context(
            running({"web server": web, "daemon": {"workspace": workspace}}, pass_fds=web["sockets"])
        )
        # Only the web server may hold the port from now on.
        for one in sockets:
            one.close()
        if options.host not in (LOCAL, "localhost", "::1"):
            print(
                f"bkt-pipeline ui: traffic to {options.host}:{port} is not encrypted, and the address below lets in "
                "anyone who has it; put a proxy with TLS and a login before it",
                file=sys.stderr,
            )
        print(
            f"Open {shown}/?{TOKEN}={secret} in a browser; the first page takes some seconds. Ctrl-C stops the UI.",
            flush=True,
        )
        try:
            ended = wait_for_any(services)
        except KeyboardInterrupt:
            return DONE
    print(f"bkt-pipeline ui: the {ended} ended by itself, so the UI was stopped", file=sys.stderr)
    return STOPPED


def workspace_file(dagster_home: Path) -> str:
    """The workspace.yaml of the Dagster home, or this package's where a home of somebody's own has none."""
    own = dagster_home / "workspace.yaml"
    return str(own if own.exists() else files("bkt_pipeline.instance") / "workspace.yaml")


def read_port(text: str) -> int:
    """The port that a person typed.

    Raises
    ------
    InvalidSettings
        It is not a whole number from 1 to 65535.
    """
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise InvalidSettings(f"--port is {text!r}; it must be a whole number from 1 to 65535")
    return int(text)


def listen(host: str, port: int) -> Sequence[socket.socket]:
    """Sockets that listen on each address of the host; a browser that comes early waits in their queue.

    Raises
    ------
    InvalidSettings
        The host has no address on this machine, or the port is taken.
    """
    sockets = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            one = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(BACKLOG)
    except OSError as error:
        for one in sockets:
            one.close()
        raise InvalidSettings(
            f"cannot listen on {host}:{port}: {error.strerror}; choose others with --host and --port"
        ) from error
    return sockets


class Service:
    """A service process in a session of its own, with all that it starts."""

    def __init__(self, name: str, orders: Mapping[str, Any], pass_fds: Sequence[int] = ()) -> None:
        self.name = name
        self._process = subprocess.Popen(
            # The folder that a person happens to be in may hold a secrets.py and a .env, which Python and Dagster
            # would take for theirs.
            [sys.executable, "-P", "-m", "bkt_pipeline.cli.service"],
            cwd="/",
            env=environment_for_services(os.environ),
            stdin=subprocess.PIPE,
            pass_fds=pass_fds,
            # Ctrl-C in the terminal is for this process, which stops the services in order.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._orders = self._process.stdin
        self._orders.write(json.dumps(orders).encode() + b"\n")
        self._orders.flush()

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def ask_to_stop(self) -> None:
        with suppress(BrokenPipeError):
            self._orders.close()

    def stop(self) -> None:
        """Wait until nothing of it lives; kill what is left after the time that a service gives itself."""
        end = time.monotonic() + STOP_SECONDS
        while self._lives() and time.monotonic() < end:
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _lives(self) -> bool:
        if not self.has_ended():
            return True
        # Its id stays the group's while others of the group live.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 0)
            return True
        return False


@contextmanager
def running(
    services: Mapping[str, Mapping[str, Any]], pass_fds: Sequence[int]
) -> Iterator[Sequence[Service]]:
    """Start the services by their names and orders, and stop them at the end; SIGTERM is an interrupt meanwhile.

    Where this process is killed, or interrupted once more while it stops them, they stop by themselves.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    started: list[Service] = []
    try:
        for name, orders in services.items():
            started.append(Service(name, orders, pass_fds if "sockets" in orders else ()))
        yield started
    finally:
        for service in started:
            service.ask_to_stop()
        for service in started:
            service.stop()
        signal.signal(signal.SIGTERM, before)


def wait_for_any(services: Sequence[Service]) -> str:
    """The name of the first service that ends."""
    while True:
        for service in services:
            if service.has_ended():
                return service.name
        time.sleep(0.2)
