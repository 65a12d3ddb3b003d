"""Compares the fit with a plain Python loop and with other packages, on the same answers in one run.

    python benchmarks/models.py --make-peers DIR     makes the peers' environment; needs a C++ compiler
    python benchmarks/models.py --peers DIR --write  compares, and renews models.md; without --peers, ours alone

`bkt_pipeline.model.log_likelihood` scores all parameters. Seconds are the median over several runs of the fit alone: the
kernels are compiled, the packages imported and the answers converted before.
"""

import contextlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import venv
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from timeit import repeat
from types import SimpleNamespace

import numpy as np
from answers import GLOPS, Windows, about, demo, glops, long_sequences
from numba import njit

from bkt_pipeline import model
from bkt_pipeline.model import DEFAULT_GRID, AttemptWindow, BktParams, log_likelihood
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.kernels import surface as kernel
from bkt_pipeline.model.kernels.trie import compose
from bkt_pipeline.model.simulate import simulate

HERE = Path(__file__).resolve().parent
MARK = "## The tables"  # --write replaces what follows it in models.md
THREADS = 2
TRUTH, PRIOR = BktParams(0.3, 0.12, 0.1, 0.2), np.array(DEFAULT_GRID.p_l0.values)
SHAPES = (115, None), (125, 8), (50, 20), (20, 50)  # students and attempts of each, about 1,000 in all
MARGIN = 0.01  # nats; a smaller difference is where an optimiser stopped
LOOP_STEPS = 3_000_000  # of the loop's innermost line; its seconds are then scaled up
PEERS = {
    "mirt": "mirt 1.2.0, `fit_bkt_em`, 5 starts",
    "pyBKT": "pyBKT 1.4.2, C++, 5 starts, as it stops by itself",
    "pyBKT-100": "pyBKT 1.4.2, C++, 5 starts, 100 steps each",
}

Values = tuple[float, float, float, float]


def plain_loop(window: AttemptWindow, points: list[Values]) -> list[float]:
    """Log-likelihood at each point, as fast as plain Python can be.

    It keeps the mass of both states, because one alone would lose precision on long sequences.
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


def loop_seconds(windows: Windows, seed: int) -> tuple[float, int]:
    """Estimated seconds of the loop over the whole grid, and the number of points that were timed for it."""
    attempts = sum(window.n_attempts for window in windows.values())
    n_points = max(LOOP_STEPS // attempts, 2)
    drawn = np.random.default_rng(seed).choice(DEFAULT_GRID.n_points, n_points, replace=False)
    points = [DEFAULT_GRID.point(int(index)) for index in drawn]
    started = perf_counter()
    found = {key: plain_loop(window, points) for key, window in windows.items()}
    seconds = (perf_counter() - started) * DEFAULT_GRID.n_points / n_points
    for key, values in found.items():
        ours = log_likelihood(windows[key], BktParams(*points[0]))
        if not math.isclose(values[0], ours, rel_tol=1e-9):
            raise SystemExit(f"skill {key}: the loop finds {values[0]} nats, log_likelihood {ours}")
    return seconds, n_points


def ours(windows: Windows, polished: bool) -> tuple[float, dict[str, Values]]:
    started = perf_counter()
    fits = dict(model.calibrate_all(windows, threads=THREADS, polished=polished))
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
    """Seconds of each run and the parameters; None if it took longer than the limit.

    It uses one thread or two, whichever is faster, because threads that spin while they wait are slow on a busy machine.
    """
    results = []
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "answers.npz"), Path(folder, "fits.json")
        lengths = np.concatenate([np.diff(window.offsets) for window in windows.values()])
        np.savez(
            source,
            responses=np.concatenate([window.responses for window in windows.values()]),
            students=np.append(0, np.cumsum(lengths)),
            skills=np.append(0, np.cumsum([window.n_students for window in windows.values()])),
        )
        for threads in ("1", str(THREADS)):
            names = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS")
            environment = os.environ | dict.fromkeys(names, threads)
            command = [python, HERE / "peers.py", name, source, target]
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(command, env=environment, check=True, timeout=limit)
                results.append(json.loads(target.read_text(encoding="utf-8")))
    if not results:
        return None
    result = min(results, key=lambda one: median(one["seconds"]))
    # A peer that cannot choose among its starts returns them all.
    return result["seconds"], {
        key: max(map(tuple, candidates), key=partial(judged, windows[key]))
        for key, candidates in zip(windows, result["candidates"], strict=True)
    }


def judged(window: AttemptWindow, values: Values) -> float:
    """Log-likelihood, also of parameters that BktParams refuses, such as a slip above 0.5."""
    return log_likelihood(window, SimpleNamespace(values=values))


def scores(windows: Windows, params: dict[str, Values]) -> np.ndarray:
    return np.array([judged(windows[key], params[key]) for key in windows])


def compare(windows: Windows, runs: int, python: Path | None, limit: float) -> Iterator[str]:
    yield "| | seconds (runs) | total log-likelihood | worse than our grid | than polished | better than polished |"
    yield "|---|---:|---:|---:|---:|---:|"
    # All of them in every round, so that other work on the machine slows them equally.
    rounds = [(loop_seconds(windows, s), ours(windows, False), ours(windows, True)) for s in range(runs)]
    loop, grid, polished = ([one[at] for one in rounds] for at in range(3))
    best = {"grid": scores(windows, grid[-1][1]), "polished": scores(windows, polished[-1][1])}
    share = f"{loop[0][1]:,} of {DEFAULT_GRID.n_points:,} points"
    seconds = median(one for one, _ in loop)
    yield f"| naive loop, from {share} | {seconds:,.0f} ({runs}) | that of our grid | | | |"

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


def ratio(runs: int) -> Iterator[str]:
    """One skill of 1,000 attempts beside the loop, which finds the best point and no interval, in every round."""
    yield "| students × attempts | distinct | loop, s | search, ms | `calibrate_skill`, ms | ratio |\n|---|---|---|---|---|---|"
    for students, lengths in SHAPES:
        window = simulate(TRUTH, n_students=students, seed=7, lengths=lengths)
        of_student = np.repeat(window.student_ids, np.diff(window.offsets)).tolist()
        rows = zip(of_student, window.responses.tolist(), (window.answered_at / 1e6).tolist(), strict=True)
        attempts = [model.AttemptObservation(student, "one", right, time) for student, right, time in rows]
        answers = DistinctSequences.of(window)
        calls = partial(answers.surface, PRIOR, DEFAULT_GRID.lanes), partial(model.calibrate_skill, attempts)
        rounds = []
        for seed in range(runs):
            loop, _ = loop_seconds({"one": window}, seed)
            rounds.append((loop, *(median(repeat(one, repeat=25, number=1)) for one in calls)))
        of, (loop, *ours) = [one[0] / one[2] for one in rounds], np.median(rounds, axis=0)
        yield f"| {students} × {lengths or '1 to 60'} | {answers.counts.size} | {loop:.1f} | " + " | ".join(
            [
                *(f"{1e3 * seconds:.2f}" for seconds in ours),
                f"**{median(of):,.0f}** ({min(of):,.0f} to {max(of):,.0f}) |",
            ]
        )


@njit(nogil=True)
def multiply_and_add(x: np.ndarray, rounds: int) -> None:
    for _ in range(rounds):
        for m in range(256):
            a, b, c, d = x[m], x[m + 256], x[m + 512], x[m + 768]
            for _ in range(16):
                a, b, c, d = a * 0.5 + 1.0, b * 0.5 + 1.0, c * 0.5 + 1.0, d * 0.5 + 1.0
            x[m], x[m + 256], x[m + 512], x[m + 768] = a, b, c, d


def limit(runs: int) -> Iterator[str]:
    """How many floating-point operations the search of the first shape makes, and how many the cores can do."""
    answers = DistinctSequences.of(simulate(TRUTH, n_students=SHAPES[0][0], seed=7))
    lanes, n, odds = DEFAULT_GRID.lanes, PRIOR.size, PRIOR / (1.0 - PRIOR)
    program, slots, digits = compose(answers.child, answers.count, answers.count[answers.ends], 0.05, odds)
    steps, products = (program[:, 0] < kernel.STEP_FAR).sum(), (program[:, 0] == kernel.MULTIPLY).sum()
    products = products * (23 + 9 * n) + 2 * n * (digits - 1)
    total = int(products + 4 * steps + 148 + 29 * n) * len(lanes)

    def rate(operations: int, call: Callable[[], object], threads: int) -> str:
        with ThreadPoolExecutor(threads) as pool:
            calls = partial(pool.map, lambda _: call(), range(8 * threads))
            seconds = median(repeat(lambda: list(calls()), repeat=20 * runs, number=1))
        return f"{8 * threads * operations / seconds / 1e9:.1f}"

    yield f"\nThe first search: {total / 1e6:.1f} million operations, {products * len(lanes) / total:.0%} in products.\n"
    yield "| billion operations a second | one thread | two threads |\n|---|---:|---:|"
    most = 350 * 256 * 16 * 8, partial(multiply_and_add, np.ones(1024), 350)
    search = total, partial(kernel.surface, program, slots, digits, 1, odds, lanes)
    yield f"| multiplying and adding in registers | {rate(*most, 1)} | {rate(*most, THREADS)} |"
    yield f"| the search | {rate(*search, 1)} | {rate(*search, THREADS)} |"


def make_peers(folder: Path) -> None:
    """Make a virtual environment for the peers, with the versions of peers.txt."""
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-r", HERE / "peers.txt"], check=True)
    # From source. If its C++ does not compile, pyBKT silently installs as pure Python, and pip would cache that.
    source = ["--no-cache-dir", "--no-build-isolation", "--no-deps", "--no-binary", "pyBKT", "pyBKT==1.4.2"]
    subprocess.run([*pip, *source], check=True)
    subprocess.run([folder / "bin" / "python", "-c", "import mirt, pyBKT.fit.E_step"], check=True)


def report(arguments: Namespace) -> Iterator[str]:
    python = arguments.peers / "bin" / "python" if arguments.peers else None
    if python and not python.exists():
        raise SystemExit(f"no environment in {arguments.peers}; make it with --make-peers {arguments.peers}")
    sets: dict[str, tuple[str, Callable[[], Windows]]] = {
        "glops": ("glops42, real answers", lambda: glops(GLOPS)),
        "school": ("The demo's school, simulated", demo),
        "long": ("Long sequences, simulated", long_sequences),
    }
    yield f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}.\n"
    yield from ratio(arguments.runs)
    yield from limit(arguments.runs)
    for key in arguments.sets:
        title, read = sets[key]
        yield f"\n### {title}\n"
        if key == "glops" and not GLOPS.exists():
            yield f"Not measured: {GLOPS} is missing; BKT_GLOPS_FILE can name another file."
            continue
        windows = read()
        yield about(windows) + ".\n"
        yield from compare(windows, arguments.runs, python, arguments.limit)


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--make-peers", type=Path, metavar="DIR", help="make the peers' environment and stop")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="the environment that --make-peers made")
    parser.add_argument("--sets", nargs="+", default=["glops", "school", "long"])
    parser.add_argument("--runs", type=int, default=5, help="runs of ours and of the loop (5)")
    parser.add_argument("--limit", type=float, default=600, help="seconds for a peer on a set (600)")
    parser.add_argument("--write", action="store_true", help="renew the tables of models.md")
    arguments = parser.parse_args()
    if arguments.make_peers:
        make_peers(arguments.make_peers)
        return
    model.warm_up(lambda: print("compiling the kernels, once on this machine", file=sys.stderr))
    # The polish has a separate kernel.
    model.calibrate(simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=50, seed=1), polished=True)
    lines: list[str] = []
    for line in report(arguments):
        print(line, flush=True)
        lines.append(line)
    if arguments.write:
        page = HERE / "models.md"
        head = page.read_text(encoding="utf-8").partition(MARK)[0]
        page.write_text("\n".join([f"{head}{MARK}\n", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
