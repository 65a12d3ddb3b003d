"""The fit beside the naive loop and beside other packages, on the same answers in one run.

    python benchmarks/models.py --make-peers DIR     makes the peers' environment, outside the checkout; needs a C++ compiler
    python benchmarks/models.py --peers DIR --write  the comparison, written to models.md; without --peers, ours alone

Everybody's parameters are judged by `bkt_pipeline.model.log_likelihood`. Seconds are those of the fit alone, median
of some runs: kernels are compiled and packages imported before, answers are in the form that the fit takes.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from types import SimpleNamespace

import numpy as np
from answers import Windows, about, demo, glops, long_sequences

from bkt_pipeline.model import (
    DEFAULT_GRID,
    AttemptWindow,
    BktParams,
    calibrate,
    calibrate_all,
    log_likelihood,
    warm_up,
)
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.simulate import simulate

HERE = Path(__file__).resolve().parent
GLOPS = HERE.parent.parent / "shared" / "data" / "glops42.csv.gz"
THREADS = 2
# A skill is lost by more than this many nats: less is the rounding of where somebody stopped.
MARGIN = 0.01
# The naive loop takes this many steps of its innermost line, then it is scaled up.
NAIVE_STEPS = 3_000_000
PEERS = {
    "mirt": "mirt 1.2.0, `fit_bkt_em`, 5 starts",
    "pyBKT": "pyBKT 1.4.2, C++, 5 starts, as it stops by itself",
    "pyBKT-100": "pyBKT 1.4.2, C++, 5 starts, 100 steps each",
}

Values = tuple[float, float, float, float]


# The fits


def naive(window: AttemptWindow, points: list[Values]) -> list[float]:
    """Log-likelihood at each point, answer after answer, as a script would write it down.

    It carries both masses, else it would go wrong on the long sequences.
    """
    answers = [part.tolist() for part in np.split(window.responses, window.offsets[1:-1])]
    found = []
    for prior, transit, slip, guess in points:
        total = 0.0
        for sequence in answers:
            known, unknown = prior, 1.0 - prior
            for right in sequence:
                if right:
                    known *= 1.0 - slip
                    unknown *= guess
                else:
                    known *= slip
                    unknown *= 1.0 - guess
                probability = known + unknown
                total += math.log(probability)
                known = (known + unknown * transit) / probability
                unknown = unknown * (1.0 - transit) / probability
        found.append(total)
    return found


@dataclass
class Script:
    """The model as the papers write it down and a script has it: a method for each formula, both masses carried."""

    prior: float
    transit: float
    slip: float
    guess: float

    def probability(self, known: float, unknown: float, right: bool) -> float:
        p_right = known * (1.0 - self.slip) + unknown * self.guess
        p_wrong = known * self.slip + unknown * (1.0 - self.guess)
        return p_right if right else p_wrong

    def after_answer(self, known: float, unknown: float, right: bool) -> tuple[float, float]:
        probability = self.probability(known, unknown, right)
        if right:
            return known * (1.0 - self.slip) / probability, unknown * self.guess / probability
        return known * self.slip / probability, unknown * (1.0 - self.guess) / probability

    def after_learning(self, known: float, unknown: float) -> tuple[float, float]:
        return known + unknown * self.transit, unknown * (1.0 - self.transit)

    def log_likelihood(self, answers: list[list[bool]]) -> float:
        total = 0.0
        for sequence in answers:
            known, unknown = self.prior, 1.0 - self.prior
            for right in sequence:
                total += math.log(self.probability(known, unknown, right))
                known, unknown = self.after_answer(known, unknown, right)
                known, unknown = self.after_learning(known, unknown)
        return total


def as_written(window: AttemptWindow, points: list[Values]) -> list[float]:
    """Log-likelihood at each point by `Script`."""
    answers = [part.astype(bool).tolist() for part in np.split(window.responses, window.offsets[1:-1])]
    return [Script(*point).log_likelihood(answers) for point in points]


Loop = Callable[[AttemptWindow, list[Values]], list[float]]


def naive_seconds(windows: Windows, seed: int, loop: Loop = naive) -> tuple[float, int]:
    """What the whole grid would take, from how many points of it. They are drawn anew for each seed."""
    attempts = sum(window.n_attempts for window in windows.values())
    n_points = max(NAIVE_STEPS // attempts, 2)
    drawn = np.random.default_rng(seed).choice(DEFAULT_GRID.n_points, n_points, replace=False)
    points = [DEFAULT_GRID.point(int(index)) for index in drawn]
    started = perf_counter()
    found = {key: loop(window, points) for key, window in windows.items()}
    seconds = (perf_counter() - started) * DEFAULT_GRID.n_points / n_points
    for key, values in found.items():
        ours = log_likelihood(windows[key], BktParams(*points[0]))
        if not math.isclose(values[0], ours, rel_tol=1e-9):
            raise SystemExit(f"skill {key}: the naive loop says {values[0]} nats, log_likelihood {ours}")
    return seconds, n_points


def ours(windows: Windows, polished: bool) -> tuple[float, dict[str, Values]]:
    started = perf_counter()
    fits = dict(calibrate_all(windows, threads=THREADS, polished=polished))
    seconds = perf_counter() - started
    params = {}
    for key, fit in fits.items():
        if isinstance(fit, Exception):
            raise fit
        params[key] = (fit.polished or fit.params).values
    return seconds, params


def peer(
    python: Path, name: str, windows: Windows, limit: float
) -> tuple[list[float], dict[str, Values]] | None:
    """Seconds of each run and the parameters; None where it was not over within the limit.

    On one thread or on two, whichever is quicker: threads that wait for each other by spinning suffer on a machine
    that has other work, and that is no fault of the package.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "answers.npz"), Path(folder, "fits.json")
        lengths = np.concatenate([np.diff(window.offsets) for window in windows.values()])
        np.savez(
            source,
            responses=np.concatenate([window.responses for window in windows.values()]),
            students=np.append(0, np.cumsum(lengths)),
            skills=np.append(0, np.cumsum([window.n_students for window in windows.values()])),
        )
        results = []
        for threads in range(1, THREADS + 1):
            limits = dict.fromkeys(
                ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)
            )
            try:
                command = [python, HERE / "peers.py", name, source, target]
                subprocess.run(command, env={**os.environ, **limits}, check=True, timeout=limit)
            except subprocess.TimeoutExpired:
                continue
            results.append(json.loads(target.read_text(encoding="utf-8")))
    if not results:
        return None
    result = min(results, key=lambda one: median(one["seconds"]))
    chosen = {}
    for key, candidates in zip(windows, result["candidates"], strict=True):
        # Where a peer hands over all its starts, the common function chooses.
        chosen[key] = max(map(tuple, candidates), key=lambda values: judged(windows[key], values))
    return result["seconds"], chosen


def judged(window: AttemptWindow, values: Values) -> float:
    """Log-likelihood under the one function that judges all.

    It looks at nothing but `values`, so that parameters which BktParams refuses (a slip above 0.5) count too.
    """
    return log_likelihood(window, SimpleNamespace(values=values))


def scores(windows: Windows, params: dict[str, Values]) -> np.ndarray:
    return np.array([judged(windows[key], params[key]) for key in windows])


# The tables


def compare(windows: Windows, runs: int, python: Path | None, limit: float) -> Iterator[str]:
    yield "| | seconds (runs) | total log-likelihood | worse than our grid | than polished | better than polished |"
    yield "|---|---:|---:|---:|---:|---:|"
    # One after the other in every round, so that whatever else the machine does strikes all alike.
    rounds = [
        (naive_seconds(windows, seed), ours(windows, False), ours(windows, True)) for seed in range(runs)
    ]
    loop, grid, polished = ([one[at] for one in rounds] for at in range(3))
    best = {"grid": scores(windows, grid[-1][1]), "polished": scores(windows, polished[-1][1])}
    naive_share = f"{loop[0][1]:,} of {DEFAULT_GRID.n_points:,} points"
    seconds = median(one for one, _ in loop)
    yield f"| naive loop, from {naive_share} | {seconds:,.0f} ({runs}) | that of our grid | | | |"

    def row(name: str, seconds: list[float], found: np.ndarray, note: str = "") -> str:
        worse = [str(np.count_nonzero(found < best[which] - MARGIN)) for which in best]
        better = np.count_nonzero(found > best["polished"] + MARGIN)
        return (
            f"| {name} | {median(seconds):,.2f} ({len(seconds)}) | {found.sum():,.1f} | {worse[0]} | {worse[1]} "
            f"| {better}{note} |"
        )

    yield row("ours, grid", [one for one, _ in grid], best["grid"])
    yield row("ours, polished", [one for one, _ in polished], best["polished"])
    for name, title in PEERS.items() if python else ():
        result = peer(python, name, windows, limit)
        if result is None:
            yield f"| {title} | not done in {limit:,.0f} | | | | |"
            continue
        found = scores(windows, result[1])
        ahead = found > best["polished"] + MARGIN
        beyond = np.array([slip > 0.5 or guess > 0.5 for *_, slip, guess in result[1].values()])
        outside = f" ({np.count_nonzero(ahead & beyond)} by slip or guess > 0.5)" if ahead.any() else ""
        yield row(title, result[0], found, outside)


def timed(call: Callable[[], object], times: int = 15) -> float:
    seconds = []
    for _ in range(times):
        started = perf_counter()
        call()
        seconds.append(perf_counter() - started)
    return median(seconds)


def ratio(runs: int) -> Iterator[str]:
    """One skill of about 1,000 attempts against the naive loops, measured side by side in every round.

    They give the log-likelihood of each point and nothing else: the search alone is what compares with them.
    """
    window = simulate(BktParams(0.3, 0.12, 0.1, 0.2), n_students=115, seed=7)
    prior, lanes = np.array(DEFAULT_GRID.p_l0.values)[:, None], DEFAULT_GRID.lanes
    rounds = []
    for seed in range(2 * runs + 1):
        loops = [naive_seconds({"one": window}, seed, loop) for loop in (as_written, naive)]
        search = timed(lambda: DistinctSequences.of(window).surface(prior, lanes).argmax())
        rounds.append((*(seconds for seconds, _ in loops), search, timed(lambda: calibrate(window))))
    written, lean, search, fit = np.array(rounds).T
    yield (
        f"One skill of {window.n_attempts:,} attempts ({window.n_students} students, "
        f"{DistinctSequences.of(window).counts.size} different sequences) on one thread, {len(rounds)} rounds; the loops from "
        f"{loops[0][1]:,} of {DEFAULT_GRID.n_points:,} points. In brackets, the least and the most of the rounds.\n"
    )
    yield "| | seconds | times the search of all points | times the whole fit, with its intervals |"
    yield "|---|---:|---:|---:|"
    for name, seconds in (
        ("naive loop, the formulas as written", written),
        ("naive loop, as lean as can be", lean),
    ):
        yield f"| {name} | {np.median(seconds):.1f} | {_times(seconds, search)} | {_times(seconds, fit)} |"
    yield f"| ours | | {np.median(search) * 1000:.2f} ms | {np.median(fit) * 1000:.2f} ms |"


def first_call(runs: int) -> Iterator[str]:
    """How long a process takes that makes the first call on a machine, beside one that comes later."""
    first, later = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as cache:
            call = [sys.executable, "-c", "from bkt_pipeline.model import warm_up; warm_up()"]
            for seconds in (first, later):
                run = partial(subprocess.run, call, check=True, env=os.environ | {"NUMBA_CACHE_DIR": cache})
                seconds.append(timed(run, times=1))
    compiling = np.subtract(first, later)
    yield (
        f"\nThe first call on a machine compiles the kernels, for {np.median(compiling):.1f} s ({compiling.min():.1f} to "
        f"{compiling.max():.1f} in {runs} runs): a process that makes it takes {np.median(first):.1f} s, imports "
        f"included, and a later one {np.median(later):.1f} s."
    )


def _times(slow: np.ndarray, quick: np.ndarray) -> str:
    of = slow / quick
    return f"**{np.median(of):,.0f}** ({of.min():,.0f} to {of.max():,.0f})"


def make_peers(folder: Path) -> None:
    """An environment of its own for the peers, pinned by peers.txt."""
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-r", HERE / "peers.txt"], check=True)
    # From source, with the setuptools just installed. Where its C++ does not compile, pyBKT's setup falls back to
    # pure Python without a word, and pip would keep that in its cache: hence no cache, and the import.
    source = ["--no-cache-dir", "--no-build-isolation", "--no-deps", "--no-binary", "pyBKT", "pyBKT==1.4.2"]
    subprocess.run([*pip, *source], check=True)
    subprocess.run([folder / "bin" / "python", "-c", "import mirt, pyBKT.fit.E_step"], check=True)


def report(arguments: argparse.Namespace) -> Iterator[str]:
    python = arguments.peers / "bin" / "python" if arguments.peers else None
    if python and not python.exists():
        raise SystemExit(f"no environment in {arguments.peers}; make it with --make-peers {arguments.peers}")
    sets: dict[str, tuple[str, Callable[[], Windows]]] = {
        "glops": ("glops42, real answers", lambda: glops(arguments.glops)),
        "school": ("The demo's school, simulated", demo),
        "long": ("Long sequences, simulated", long_sequences),
    }
    yield from ratio(arguments.runs)
    yield from first_call(arguments.runs)
    for key in arguments.sets:
        title, read = sets[key]
        yield f"\n## {title}\n"
        if key == "glops" and not arguments.glops.exists():
            yield "Not measured: the file is not beside the project (`--glops FILE`)."
            continue
        windows = read()
        yield about(windows) + ".\n"
        yield from compare(windows, arguments.runs, python, arguments.limit)


HEAD = f"""# The fit, the naive loop and other packages

Made by `python benchmarks/models.py --peers DIR --write`, after `--make-peers DIR`, on {{cores}} cores ({{machine}},
Python {{python}}). Seconds are the median of the runs in brackets, compilation, imports and the
reading of answers not counted; ours on {THREADS} threads and with all intervals, the peers on one thread or {THREADS},
whichever was quicker. Log-likelihoods, in nats, are all from `bkt_pipeline.model.log_likelihood`. A skill is worse or
better where it is so by more than {MARGIN} nats; ours keeps p_l0 and p_transit above 1e-4, the peers do not.

The naive loop goes over every answer at every point in plain Python. It is there twice: with a method for each of the
model's formulas, as a script has it, and as lean as plain Python allows, on lists and without a call inside, which is
the one in the tables of whole sets. Both are timed on some points of the grid, drawn at random, and scaled up to all; at
the first of them the value must be that of `log_likelihood`.

pyBKT is there twice. Its compiled E-step hands the log-likelihood back as a whole number (`PyLong_FromLong`, in the
wheel of 1.4.1 too), so its EM stops as soon as two steps share the digits before the point: after about 8 steps on
glops42, which makes it quick and leaves it short. The second row has that stop switched off (`tol=-1`), does all 100
steps of its limit, and has its best start chosen by the common function. hmm-scalable is not on PyPI.

"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--make-peers", type=Path, metavar="DIR", help="make the peers' environment and stop")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="the environment that --make-peers made")
    parser.add_argument("--glops", type=Path, default=GLOPS, help="the file glops42.csv.gz")
    parser.add_argument("--sets", nargs="+", default=["glops", "school", "long"])
    parser.add_argument("--runs", type=int, default=5, help="runs of ours and of the naive loop (5)")
    parser.add_argument("--limit", type=float, default=600, help="seconds for a peer on a set (600)")
    parser.add_argument("--write", action="store_true", help="write models.md beside this file")
    arguments = parser.parse_args()
    if arguments.make_peers:
        make_peers(arguments.make_peers)
        return
    warm_up(lambda: print("compiling the kernels, once on this machine", file=sys.stderr))
    text = HEAD.format(cores=os.cpu_count(), machine=platform.machine(), python=platform.python_version())
    print(text, end="")
    for line in report(arguments):
        print(line, flush=True)
        text += line + "\n"
    if arguments.write:
        (HERE / "models.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
