"""A process of `bkt-pipeline ui`: Dagster's web server behind the guard, its code server, or its daemon.

    python -P -m bkt_pipeline.cli.service < orders

The first line on stdin is a JSON object with the orders. The secret is passed this way because other users can see the
arguments and environment of a process. Stdin ends when the parent ends for any reason; the service then stops itself and
all of its children, including the runs. It must be the leader of a process group.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from importlib.metadata import entry_points
from typing import Any

STOP_SECONDS = 20  # time for a run to record that it was interrupted
CLOSE_SECONDS = 2  # time for a browser to finish a request


def main() -> None:
    """Run the service until its parent ends or closes our stdin."""
    # Dagster makes SIGTERM do what SIGINT does, which is nothing if a shell started this process with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # Only our account may write to the sockets of the code servers, because they run code.
    os.umask(os.umask(0) | 0o022)
    orders = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        (run_dagster if "command" in orders else serve_ui)(**orders)
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)


def serve_ui(
    workspace: str, sockets: list[int], addresses: list[tuple[str, str, int]], secret: str, cookie: str
) -> None:
    """Serve Dagster's UI behind the guard on sockets that listen already."""
    import dagster as dg
    import uvicorn
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    from bkt_pipeline.cli.guard import Address, Guard
    from bkt_pipeline.defs.private import open_workspace

    with (
        dg.DagsterInstance.get() as instance,
        open_workspace(instance, workspace, version=__version__) as context,
    ):
        app = create_app_from_workspace_process_context(context, live_data_poll_rate=2000)
        guard = Guard(app, secret, [Address(*address) for address in addresses], cookie)
        config = uvicorn.Config(
            guard,
            log_level="warning",
            # The access log would contain the secret.
            access_log=False,
            # Any client can send proxy headers, so they must not change how a request is seen.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[socket.socket(fileno=number) for number in sockets])


def run_dagster(command: str, arguments: list[str]) -> None:
    """Run a command of Dagster's package in this process."""
    (entry,) = entry_points(group="console_scripts", name=command)
    sys.argv = [command, *arguments]
    run: Any = entry.load()
    run()


def _stop_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
