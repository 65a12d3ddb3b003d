"""How often `log_likelihood_holds_out` warns against last night's parameters: of sound fits, and of searches gone wrong.

    python benchmarks/hold_out.py --write

prints a table and writes it to hold_out.md. The truth behind the answers is the same on both nights. Of the second
night's students one in thirty is new, as from one night to the next, or all of them.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np

from bkt_pipeline.calibration.skill_checks import HOLD_OUT_MARGIN, HOLD_OUT_MARGIN_NATS, Past, holds_out
from bkt_pipeline.model import DEFAULT_GRID, AttemptWindow, BktParams, Grid, warm_up
from bkt_pipeline.model.bkt.grid import Axis
from bkt_pipeline.model.bkt.prediction import most_likely
from bkt_pipeline.model.simulate import simulate

HEAD = """# How often the hold-out check warns against last night's parameters

{skills} simulated skills a row, true values drawn flat from p_l0 in [0.05, 0.9], p_transit in [0.02, 0.5],
p_slip in [0.02, 0.3], p_guess in [0.05, 0.35], the same on both nights.
Percent of the skills that are warned of, where the margin is
{margin} nats an attempt and {attempts:g} nats on top for all that were fitted on: of the sound search, and of one that
knows no slip, or no guess, below the truth and 0.2. The last two columns: the 99th percentile of what the sound fit is
worse than last night's parameters, and the margin's median, in nats an attempt.

Made by `python benchmarks/hold_out.py --write` on 2 cores.

| students | attempts each | new | sound fit | slip wrong | guess wrong | 99% are below | margin | seconds |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""


def truths(n: int, seed: int) -> Iterator[BktParams]:
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield BktParams(
            rng.uniform(0.05, 0.9), rng.uniform(0.02, 0.5), rng.uniform(0.02, 0.3), rng.uniform(0.05, 0.35)
        )


def next_night(before: AttemptWindow, other: AttemptWindow, one_in: int) -> AttemptWindow:
    """The window before, with the answers of one student in so many from the other one."""
    attempts = before.n_attempts // before.n_students
    new = np.repeat(np.arange(before.n_students) % one_in == 0, attempts)
    return AttemptWindow(
        before.skill_id,
        before.student_ids,
        np.where(new, other.responses, before.responses),
        before.answered_at,
        before.offsets,
        before.as_of,
        before.window_days,
    )


def from_upwards(value: float) -> Axis:
    """The grid's values from this one up to 0.5."""
    return Axis(round(min(np.ceil(value * 20) / 20, 0.5), 2), 0.5, 0.05)


def row(students: int, attempts: int, one_in: int, skills: int) -> str:
    started = perf_counter()
    worse: list[float] = []
    margins: list[float] = []
    warned = {"sound": 0, "slip": 0, "guess": 0}
    for number, truth in enumerate(truths(skills, students)):
        two = [simulate(truth, n_students=students, seed=2 * number + n, lengths=attempts) for n in range(2)]
        past = Past((), most_likely(two[0], DEFAULT_GRID))
        tonight = next_night(*two, one_in)
        searches = {
            "sound": DEFAULT_GRID,
            "slip": Grid(p_slip=from_upwards(truth.p_slip + 0.2)),
            "guess": Grid(p_guess=from_upwards(truth.p_guess + 0.2)),
        }
        for name, grid in searches.items():
            found = holds_out(tonight, past, grid).numbers
            if "margin" in found:
                actual, allowed, margin = (
                    float(found[what]) for what in ("actual", "last_night_less_margin", "margin")
                )
                warned[name] += actual < allowed
                if name == "sound":
                    worse.append(allowed + margin - actual)
                    margins.append(margin)
    percents = " | ".join(f"{100 * count / len(margins):.1f}" for count in warned.values())
    return (
        f"| {students:,} | {attempts} | {'all' if one_in == 1 else f'1 in {one_in}'} | {percents} | "
        f"{np.quantile(worse, 0.99):.4f} | {np.median(margins):.4f} | {perf_counter() - started:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--skills", type=int, default=400, help="simulated skills a row (400)")
    parser.add_argument("--students", type=int, nargs="+", default=[30, 100, 300, 1000])
    parser.add_argument("--attempts", type=int, nargs="+", default=[4, 16], help="attempts of each student")
    parser.add_argument("--write", action="store_true", help="write hold_out.md beside this file")
    arguments = parser.parse_args()
    warm_up()
    table = HEAD.format(skills=arguments.skills, margin=HOLD_OUT_MARGIN, attempts=HOLD_OUT_MARGIN_NATS)
    print(table, end="")
    for students in arguments.students:
        for attempts in arguments.attempts:
            for one_in in (30, 1):
                line = row(students, attempts, one_in, arguments.skills)
                print(line, flush=True)
                table += line + "\n"
    if arguments.write:
        (Path(__file__).parent / "hold_out.md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
