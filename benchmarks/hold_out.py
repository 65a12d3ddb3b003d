"""How often `log_likelihood_holds_out` warns, compared with last night's parameters, for sound fits and wrong searches.

    python benchmarks/hold_out.py --write

prints a table and updates hold_out.md, which explains the columns. Both nights have the same true values. On the second
night, either one in thirty students is new or all of them are.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np

from bkt_pipeline.calibration.baseline import History
from bkt_pipeline.calibration.skill_checks import log_likelihood_holds_out
from bkt_pipeline.model import DEFAULT_GRID, AttemptWindow, BktParams, Grid, calibrate, warm_up
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.grid import Axis
from bkt_pipeline.model.bkt.search import search
from bkt_pipeline.model.simulate import simulate

TRUE_VALUES = (0.05, 0.9), (0.02, 0.5), (0.02, 0.3), (0.05, 0.35)
NUMBERS = "actual", "last_night_less_margin", "margin"  # of the check's finding
PAGE = Path(__file__).with_suffix(".md")
HEAD = """| students | attempts each | new | sound fit | slip wrong | guess wrong | 99% are below | margin | seconds |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""


def truths(n: int, seed: int) -> Iterator[BktParams]:
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield BktParams(*(rng.uniform(*range_) for range_ in TRUE_VALUES))


def next_night(before: AttemptWindow, other: AttemptWindow, one_in: int) -> AttemptWindow:
    """The window of the night before, in which one student in `one_in` has the answers of the other window."""
    attempts = before.n_attempts // before.n_students
    new = np.repeat(np.arange(before.n_students) % one_in == 0, attempts)
    return replace(before, responses=np.where(new, other.responses, before.responses))


def from_upwards(value: float) -> Axis:
    """The grid's values from this one to 0.5."""
    return Axis(round(min(np.ceil(value * 20) / 20, 0.5), 2), 0.5, 0.05)


def row(students: int, attempts: int, one_in: int, skills: int) -> str:
    started = perf_counter()
    worse: list[float] = []
    margins: list[float] = []
    warned = {"sound": 0, "slip": 0, "guess": 0}
    for number, truth in enumerate(truths(skills, students)):
        two = [simulate(truth, n_students=students, seed=2 * number + n, lengths=attempts) for n in range(2)]
        before = two[0]
        past = History((), search(before.responses, before.offsets, DistinctSequences.of(before))[0])
        tonight = next_night(*two, one_in)
        searches = {
            "sound": DEFAULT_GRID,
            "slip": Grid(p_slip=from_upwards(truth.p_slip + 0.2)),
            "guess": Grid(p_guess=from_upwards(truth.p_guess + 0.2)),
        }
        for kind, grid in searches.items():
            fit = calibrate(tonight, grid, scored=True)
            found = log_likelihood_holds_out(tonight, fit, past).numbers
            if "margin" in found:
                actual, allowed, margin = (float(found[name]) for name in NUMBERS)
                warned[kind] += actual < allowed
                if kind == "sound":
                    worse.append(allowed + margin - actual)
                    margins.append(margin)
    percents = " | ".join(f"{100 * count / len(margins):.1f}" for count in warned.values())
    return (
        f"| {students:,} | {attempts} | {'all' if one_in == 1 else f'1 in {one_in}'} | {percents} | "
        f"{np.quantile(worse, 0.99):.4f} | {np.median(margins):.4f} | {perf_counter() - started:.1f} |"
    )


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--skills", type=int, default=400, help="simulated skills a row (400)")
    parser.add_argument("--students", type=int, nargs="+", default=[30, 100, 300, 1000])
    parser.add_argument("--write", action="store_true", help="renew the table of hold_out.md")
    arguments = parser.parse_args()
    warm_up()
    table = HEAD
    print(table, end="")
    for students, attempts, one_in in product(arguments.students, (4, 16), (30, 1)):
        line = row(students, attempts, one_in, arguments.skills)
        print(line, flush=True)
        table += line + "\n"
    if arguments.write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(page.partition("| students |")[0] + table, encoding="utf-8")


if __name__ == "__main__":
    main()
