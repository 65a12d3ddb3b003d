"""`bkt-pipeline ui`: Dagster's UI and daemon on this machine, for users who have the address that it prints.

This process opens the port, and starts and stops the others: the code server, the web server behind the guard, and the
daemon.
"""

import argparse
import json
import secrets
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import astuple
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bkt_pipeline.cli.console import DONE
from bkt_pipeline.errors import InvalidSettings, install_extra

STOPPED = 1
LOCAL = "127.0.0.1"
PORT = 3000
BACKLOG = 128


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    ui = commands.add_parser(
        "ui",
        help="open the Dagster UI on the same database",
        description="Starts Dagster's web server and daemon on this machine (Ctrl-C stops them) and prints the "
        "address to open. The address contains a secret that is new at every start; without it the UI refuses "
        "every request. The daemon runs the night at 07:00 UTC while this command runs.",
    )
    ui.add_argument(
        "--host",
        default=LOCAL,
        help=f"address to listen on (default: {LOCAL}). The traffic is not encrypted: on any other address put a "
        "proxy with TLS and a login in front of it",
    )
    # Parsed in run_ui, so that an invalid value is reported in one line like any other setting.
    ui.add_argument("--port", default=str(PORT), help=f"port to listen on (default: {PORT})")
    ui.add_argument(
        "--public-url",
        metavar="URL",
        help="the address of the UI for browsers, if there is a proxy in front of it, such as https://bkt.example.org",
    )
    ui.add_argument(
        "--no-daemon",
        action="store_true",
        help="start no daemon, because one runs elsewhere on the same storage; two would disturb each other",
    )
    ui.set_defaults(run=run_ui)


def run_ui(options: argparse.Namespace) -> int:
    """Start the services, print the address, and stop all services on Ctrl-C or when one of them ends."""
    if find_spec("dagster_webserver") is None:
        raise InvalidSettings(f"the package dagster-webserver is missing; {install_extra('ui')}")
    from bkt_pipeline.cli.guard import TOKEN, Address, loopback_addresses, read_address
    from bkt_pipeline.cli.processes import running
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.instance.storage import check_storage, use_dagster_home

    port = read_port(options.port)
    named = Address("http", options.host, port)
    shown = read_address(options.public_url) if options.public_url else named
    secret = secrets.token_urlsafe(32)
    with ExitStack() as stack:
        # First, so that a second daemon on the same storage never starts if the port is taken.
        sockets = [stack.enter_context(one) for one in listen(options.host, port)]
        check_storage()
        open_database().close()
        dagster_home = use_dagster_home()
        # Private to this account, because anyone who can write to the code server's socket can run code.
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bkt-pipeline-")))
        services = stack.enter_context(running())
        try:
            workspace = own_workspace(dagster_home)
            if workspace is None:
                services.start("code server", code_server(folder / "socket"))
                services.wait_for(folder / "socket")
                workspace = write_workspace(folder)
            numbers = [one.fileno() for one in sockets]
            web = {
                "workspace": str(workspace),
                "sockets": numbers,
                "addresses": [astuple(one) for one in {named, shown, *loopback_addresses(port)}],
                "secret": secret,
                "cookie": f"bkt_pipeline_{port}",
            }
            services.start("web server", web, pass_fds=numbers)
            if not options.no_daemon:
                services.start("daemon", daemon(workspace))
            # From now on, only the web server holds the port.
            for one in sockets:
                one.close()
            if options.host not in (LOCAL, "localhost", "::1"):
                print(
                    f"bkt-pipeline ui: traffic to {options.host}:{port} is not encrypted, and the address below lets "
                    "in anyone who has it; put a proxy with TLS and a login in front of it",
                    file=sys.stderr,
                )
            print(
                f"Open {shown}/?{TOKEN}={secret} in a browser; the first page takes some seconds. "
                "Ctrl-C stops the UI.",
                flush=True,
            )
            ended = services.wait()
        except KeyboardInterrupt:
            return DONE
    print(f"bkt-pipeline ui: the {ended} ended by itself, so the UI was stopped", file=sys.stderr)
    return STOPPED


def read_port(text: str) -> int:
    """The port that the user gave.

    Raises
    ------
    InvalidSettings
        The port is not a whole number from 1 to 65535.
    """
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise InvalidSettings(f"--port is {text!r}; it must be a whole number from 1 to 65535")
    return int(text)


def listen(host: str, port: int) -> Sequence[socket.socket]:
    """Sockets that listen on each address of the host; an early browser waits in their queue.

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
    except (OSError, UnicodeError) as error:
        for one in sockets:
            one.close()
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise InvalidSettings(
            f"cannot listen on {host}:{port}: {reason}; choose another address with --host and --port"
        ) from error
    return sockets


def own_workspace(dagster_home: Path) -> Path | None:
    """The Dagster home's workspace.yaml if it was changed, such as to load more than this package; None for ours."""
    found = dagster_home / "workspace.yaml"
    ours = (files("bkt_pipeline.instance") / "workspace.yaml").read_bytes()
    return found if found.exists() and found.read_bytes() != ours else None


def write_workspace(folder: Path) -> Path:
    """Write a workspace.yaml for the code server in the folder, which the web server and the daemon share."""
    server = {"socket": str(folder / "socket"), "location_name": "bkt_pipeline"}
    path = folder / "workspace.yaml"
    # JSON is YAML.
    path.write_text(json.dumps({"load_from": [{"grpc_server": server}]}))
    return path


def code_server(path: Path) -> dict[str, Any]:
    """The orders that start a code server on the socket."""
    arguments = ["--socket", str(path), "--module-name", "bkt_pipeline.definitions"]
    arguments += ["--location-name", "bkt_pipeline", "--empty-working-directory", "--log-level", "warning"]
    return {"command": "dagster", "arguments": ["api", "grpc", *arguments]}


def daemon(workspace: Path) -> dict[str, Any]:
    """The orders that start the daemon."""
    arguments = ["run", "--workspace", str(workspace), "--log-level", "warning"]
    return {"command": "dagster-daemon", "arguments": arguments}
