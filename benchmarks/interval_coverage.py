"""How often the 95% intervals cover the true value, for simulated skills drawn from the shipped prior.

    python benchmarks/interval_coverage.py --write

prints a table for 200 skills each at 30, 300 and 3,000 students of 8 attempts, and writes it to interval_coverage.md.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bkt_pipeline.model import SHIPPED_PRIOR, BktParams, SkillFit, calibrate_all, warm_up
from bkt_pipeline.model.simulate import simulate

SEED = 1994
ATTEMPTS = 8
NAMES = ("p_l0", "p_transit", "p_slip", "p_guess")
# The coverage of every parameter must be between these, in percent.
LEAST, MOST = 88.0, 99.0
HEAD = """# Coverage of the 95% intervals

Each row has {skills} simulated skills with {attempts} attempts per student; true values are drawn from the shipped
prior (slip and guess at most 0.5). Each cell shows the percentage of posterior intervals (in brackets, of profile intervals)
that contain the true value, and the median width of the posterior interval. By chance alone, 95% would appear as
{low:.1f} to {high:.1f}. The published estimate is the pooled one here; an interval for another estimate is widened if
necessary to contain it.

Made by `python benchmarks/interval_coverage.py --write`.

| students | p_l0 | p_transit | p_slip | p_guess |
|---:|---:|---:|---:|---:|
"""


def truths(n: int, seed: int) -> Iterator[BktParams]:
    """Values drawn from the shipped prior; values outside the bounds of slip and guess are drawn again."""
    rng = np.random.default_rng(seed)
    while n:
        logits = rng.multivariate_normal(SHIPPED_PRIOR.mean, SHIPPED_PRIOR.covariance, method="cholesky")
        if logits[2:].max() < 0.0:
            n -= 1
            yield BktParams(*(1.0 / (1.0 + np.exp(-logits))))


def row(students: int, skills: int) -> tuple[str, list[float]]:
    truth = {str(i): values for i, values in enumerate(truths(skills, SEED + students))}
    windows = {
        key: simulate(values, n_students=students, seed=SEED + int(key), lengths=ATTEMPTS)
        for key, values in truth.items()
    }
    fits: dict[str, SkillFit] = {}
    for key, fit in calibrate_all(windows, estimator="pooled"):
        if isinstance(fit, Exception):
            raise fit
        fits[key] = fit
    cells, covered = [], []
    for name in NAMES:
        estimates = [getattr(fits[key].uncertainty, name) for key in truth]
        values = np.array([getattr(truth[key], name) for key in truth])
        ends = [(each.low, each.high, each.profile_low, each.profile_high) for each in estimates]
        low, high, profile_low, profile_high = np.array(ends).T
        covered.append(100 * float(np.mean((low <= values) & (values <= high))))
        profile = 100 * np.mean((profile_low <= values) & (values <= profile_high))
        cells.append(f"{covered[-1]:.1f} ({profile:.1f}), {np.median(high - low):.3f}")
    return f"| {students:,} | {' | '.join(cells)} |", covered


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--skills", type=int, default=200, help="simulated skills a row (200)")
    parser.add_argument("--students", type=int, nargs="+", default=[30, 300, 3000])
    parser.add_argument("--write", action="store_true", help="write interval_coverage.md beside this file")
    arguments = parser.parse_args()
    warm_up()
    error = 196 * (0.95 * 0.05 / arguments.skills) ** 0.5
    table = HEAD.format(skills=arguments.skills, attempts=ATTEMPTS, low=95 - error, high=min(95 + error, 100))
    print(table, end="")
    covered = []
    for students in arguments.students:
        line, values = row(students, arguments.skills)
        print(line, flush=True)
        table += line + "\n"
        covered += values
    if arguments.write:
        Path(__file__).with_suffix(".md").write_text(table, encoding="utf-8")
    if min(covered) < LEAST or max(covered) > MOST:
        raise SystemExit(
            f"coverage is {min(covered):.1f} to {max(covered):.1f}; it must be {LEAST:g} to {MOST:g}"
        )


if __name__ == "__main__":
    main()
