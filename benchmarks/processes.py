"""What the processes of a deployment spend: their seconds on a core, and their memory. Reads /proc, so Linux only."""

import os
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
SECONDS_BETWEEN = 0.1


@dataclass
class Process:
    """One process as it was last seen."""

    kind: str
    pid: int
    seconds: float
    mebibytes: float


class Meter(threading.Thread):
    """Looks at each process some times a second and keeps what it last saw: a tenth of a second of each is missed.

    Two families are looked at: the session of Dagster's daemon (itself, its code server, the runs), and the
    server's backends, which say in their title which database they work for. And the machine as a whole: what
    others do on it meanwhile disturbs what is measured.
    """

    def __init__(self, daemon: int, postmaster: int) -> None:
        super().__init__(daemon=True)
        self.daemon_pid, self.postmaster = daemon, postmaster
        self._seen: dict[tuple[int, str], Process] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN):
            self.look()

    def end(self) -> None:
        self._ended.set()
        self.join()

    def look(self) -> None:
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                try:
                    self._look_at(folder)
                except (FileNotFoundError, ProcessLookupError):
                    continue

    def _look_at(self, folder: Path) -> None:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        parent, session = int(fields[1]), int(fields[3])
        own = (int(fields[11]) + int(fields[12])) / TICKS
        pid = int(folder.name)
        before = self._seen.get((pid, fields[19]), Process("", pid, own, 0.0))
        kind, mebibytes = before.kind, 0.0
        if pid == os.getpid():
            kind = "meter"
        elif pid == self.postmaster:
            # With the children that it has waited for: all that its backends have spent.
            kind, own = "postmaster", own + (int(fields[13]) + int(fields[14])) / TICKS
        elif parent == self.postmaster:
            # One that has ended, and that its server has not waited for yet, has no title any more.
            words = (folder / "cmdline").read_text().split()
            kind = f"database {words[2]}" if len(words) > 2 else kind
        elif session == self.daemon_pid:
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            now = int(status.get("VmHWM", "0 kB").split()[0]) / 1024
            kind, mebibytes = "dagster", max(now, before.mebibytes)
        else:
            return
        self._seen[pid, fields[19]] = Process(kind, pid, own, mebibytes)

    def processes(self) -> list[Process]:
        """Everything that was seen."""
        self.look()
        return list(self._seen.values())

    def seconds(self, runs: set[int]) -> Counter[str]:
        """Seconds on a core until now: of the runs, of the rest of Dagster, of each database's backends, of others."""
        spent: Counter[str] = Counter()
        for process in self.processes():
            spent["runs" if process.pid in runs else process.kind] += process.seconds
        # A backend that has ended was seen and is counted by its server, too.
        ours = spent.total() - spent["postmaster"]
        spent["others"] = machine_seconds() - ours
        return spent


def machine_seconds() -> float:
    """Seconds that the machine's cores have been busy since it started, for whomever."""
    user, nice, system, _, _, *rest = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(map(int, [user, nice, system, *rest[:3]])) / TICKS
