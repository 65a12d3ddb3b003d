"""The machine's processes: what their command lines show, where they listen, and ending those that a test has started."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
# As the console script, which imports nothing from the working folder.
COMMAND = [sys.executable, "-P", "-c", "import sys; from bkt_pipeline.cli.main import main; sys.exit(main())"]


class ProcessList:
    """Reads every command line on the machine again and again while it is open, as `ps` shows them to everyone."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> "ProcessList":
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._reader.join()

    def _read(self) -> None:
        while not self._over.wait(0.02):
            for process in PROC.glob("[0-9]*"):
                with suppress(OSError):
                    self.seen.add(
                        (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    )


def listening(port: int) -> set[str]:
    """The addresses at which anything listens on the port, as the kernel writes them."""
    tables = [PROC / "net" / name for name in ("tcp", "tcp6")]
    lines = [
        line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]
    ]
    ends = [fields[1].split(":") for fields in lines if fields[3] == "0A"]
    return {address for address, at in ends if int(at, 16) == port}


def end_group(process: "subprocess.Popen[bytes]", seconds: float = 60) -> None:
    """End a process that was started in a session of its own, and what it has started, such as Dagster's code server."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    # A code server outlives its daemon by minutes.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and those that these have started."""
    parents = {}
    for process in PROC.glob("[0-9]*"):
        with suppress(OSError):
            stat = (process / "stat").read_text()
            parents[int(process.name)] = int(stat.rpartition(")")[2].split()[1])
    found: set[int] = set()
    while new := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= new
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
