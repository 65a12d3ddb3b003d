"""The command `ui`: Dagster's web server and daemon on this machine."""

import argparse
import os
import sys
from typing import Any

from bkt_pipeline.cli.console import UNUSABLE

LOCAL = "127.0.0.1"


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    ui = commands.add_parser(
        "ui",
        help="open the Dagster UI on the same database",
        description="Starts Dagster's webserver and daemon on this machine (Ctrl-C stops them). The daemon "
        "runs the night at 07:00 UTC while this command runs. The UI has no login: it listens on 127.0.0.1 "
        "unless told otherwise.",
    )
    ui.add_argument(
        "--host",
        default=LOCAL,
        help=f"address to listen on (default: {LOCAL}); whoever reaches another one can start runs and see results",
    )
    ui.add_argument("--port", type=int, default=3000, help="default: 3000")
    ui.set_defaults(run=run_ui)


def run_ui(options: argparse.Namespace) -> int:
    """Hand over to Dagster's own `dagster dev`."""
    from importlib.util import find_spec

    if find_spec("dagster_webserver") is None:
        print(
            "bkt-pipeline ui: the package dagster-webserver is missing; pip install 'bkt_pipeline[ui]'",
            file=sys.stderr,
        )
        return UNUSABLE
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.instance.storage import use_dagster_home

    open_database().close()
    workspace = use_dagster_home() / "workspace.yaml"
    if options.host not in (LOCAL, "localhost", "::1"):
        print(
            f"bkt-pipeline ui: Dagster's UI has no login: whoever reaches {options.host}:{options.port} can start "
            "runs and see results; put a proxy with a login before it",
            file=sys.stderr,
        )
    print(
        f"The Dagster UI opens at http://{options.host}:{options.port} in some seconds; Ctrl-C stops it.",
        flush=True,
    )
    where = ["-w", str(workspace)] if workspace.exists() else ["-m", "bkt_pipeline.definitions"]
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "dagster",
        "dev",
        *where,
        "-h",
        options.host,
        "-p",
        str(options.port),
    ]
    os.execv(sys.executable, [*command, "--log-level", "warning"])
