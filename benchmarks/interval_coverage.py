"""How often the 95% intervals cover the truth: simulated skills whose true values lie anywhere inside the grid's range.

    python benchmarks/interval_coverage.py --write

prints a table for 500 skills each at 30, 300, 3,000 and 30,000 students of 8 attempts, and writes it to interval_coverage.md.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np

from bkt_pipeline.model import BktParams, SkillFit, calibrate_all, warm_up
from bkt_pipeline.model.simulate import simulate

NAMES = ("p_l0", "p_transit", "p_slip", "p_guess")
HEAD = """# Coverage of the 95% intervals

{skills} simulated skills a row, {attempts} attempts a student, true values drawn flat from p_l0, p_transit in [0.05, 0.95] and
p_slip, p_guess in [0.05, 0.5]. Each cell: how many percent of the posterior's intervals (in brackets, of the profile's) hold
the truth, and the posterior interval's median width. By chance alone, 95% would show as 93.1 to 96.9.

Made by `python benchmarks/interval_coverage.py --write` on 2 cores.

| students | p_l0 | p_transit | p_slip | p_guess | seconds |
|---:|---:|---:|---:|---:|---:|
"""


def truths(n: int, seed: int) -> Iterator[BktParams]:
    """True values anywhere inside the grid's range, on it or not."""
    rng = np.random.default_rng(seed)
    while n:
        prior, transit = rng.uniform(0.05, 0.95, 2)
        slip, guess = rng.uniform(0.05, 0.5, 2)
        if slip + guess < 1:
            n -= 1
            yield BktParams(prior, transit, slip, guess)


def row(students: int, skills: int, attempts: int, seed: int) -> str:
    truth = {str(i): values for i, values in enumerate(truths(skills, seed + students))}
    windows = {
        key: simulate(values, n_students=students, seed=seed + int(key), lengths=attempts)
        for key, values in truth.items()
    }
    started = perf_counter()
    fits: dict[str, SkillFit] = {}
    for key, fit in calibrate_all(windows):
        if isinstance(fit, Exception):
            raise fit
        fits[key] = fit
    seconds = perf_counter() - started
    cells = []
    for name in NAMES:
        estimates = [getattr(fits[key].uncertainty, name) for key in truth]
        values = np.array([getattr(truth[key], name) for key in truth])
        low, high, profile_low, profile_high = np.array(
            [(e.low, e.high, e.profile_low, e.profile_high) for e in estimates]
        ).T
        covers = 100 * np.mean((low <= values) & (values <= high))
        profile = 100 * np.mean((profile_low <= values) & (values <= profile_high))
        cells.append(f"{covers:.1f} ({profile:.1f}), {np.median(high - low):.3f}")
    return f"| {students:,} | {' | '.join(cells)} | {seconds:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--skills", type=int, default=500, help="simulated skills a row (500)")
    parser.add_argument("--attempts", type=int, default=8, help="attempts of each student (8)")
    parser.add_argument("--students", type=int, nargs="+", default=[30, 300, 3000, 30_000])
    parser.add_argument("--seed", type=int, default=1994)
    parser.add_argument("--write", action="store_true", help="write interval_coverage.md beside this file")
    arguments = parser.parse_args()
    warm_up(lambda: print("compiling the kernels, once on this machine", file=sys.stderr))
    table = HEAD.format(skills=arguments.skills, attempts=arguments.attempts)
    print(table, end="")
    for students in arguments.students:
        line = row(students, arguments.skills, arguments.attempts, arguments.seed)
        print(line, flush=True)
        table += line + "\n"
    if arguments.write:
        (Path(__file__).parent / "interval_coverage.md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
