"""The 2PL fit: how close it comes to simulated truth, how long it takes, and what other packages do with the same.

    python benchmarks/irt.py                 recovery and speed
    python benchmarks/irt.py --peers         the comparison, in an environment of its own

The peers are no dependency of the project. Their environment, anywhere outside the checkout:

    python -m venv /tmp/peers-irt
    /tmp/peers-irt/bin/pip install numpy scipy numba girth==0.8.0 mirt==1.2.0
    PYTHONPATH=. /tmp/peers-irt/bin/python benchmarks/irt.py --peers
"""

import argparse
import os
import time
from collections.abc import Callable

# Before numpy: every timing here is of one core.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1"))

import numpy as np
from scipy import optimize

from bkt_pipeline.model.irt.fits import ItemFlag
from bkt_pipeline.model.irt.two_pl import A_BOUNDS, B_BOUNDS, ability, fit_items, probability


def within(draw: Callable[[int], np.ndarray], n: int, low: float, high: float) -> np.ndarray:
    """The first n of the drawn values that lie inside (low, high)."""
    values = draw(4 * n)
    return values[(values > low) & (values < high)][:n]


def simulate(rng, n_items, n_answers, mean_log_a=0.35, sd_log_a=0.25, b_limit=2.0, noise=0.0):
    """True a and b, and theta, responses, offsets; the fit sees theta with `noise` added to it."""
    a = within(lambda n: np.exp(rng.normal(mean_log_a, sd_log_a, n)), n_items, *A_BOUNDS)
    b = within(lambda n: rng.normal(0, 1, n), n_items, -b_limit, b_limit)
    low, high = ability([0, 1])
    theta = rng.normal(0, 1, (n_items, n_answers)).clip(low, high)
    responses = (rng.random(theta.shape) < probability(theta, a[:, None], b[:, None])).astype(np.uint8)
    seen = (theta + rng.normal(0, noise, theta.shape)).clip(low, high) if noise else theta
    return a, b, seen.ravel(), responses.ravel(), np.arange(n_items + 1) * n_answers


def rmse(found, true):
    return float(np.sqrt(np.mean((found - true) ** 2)))


def best_time(call, repeats=3):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def recovery(n_items=10_000):
    designs = {
        "steep: log a ~ N(0.35, 0.25), b ~ N(0, 1) in (-2, 2)": {},
        "as the priors: log a ~ N(0, 0.5), b ~ N(0, 1) in (-3, 3)": {
            "mean_log_a": 0,
            "sd_log_a": 0.5,
            "b_limit": 3,
        },
        "steep, theta seen with noise of sd 0.5": {"noise": 0.5},
    }
    print(f"{n_items} items a cell; RMSE of a / b, then mean error of a\n")
    print("| design | answers | ML | MAP | bias of a, ML | MAP |\n|---|---|---|---|---|---|")
    for name, design in designs.items():
        for n_answers in (50, 200, 1000):
            a, b, *answers = simulate(np.random.default_rng(1), n_items, n_answers, **design)
            ml, map_ = (fit_items(*answers, method=method) for method in ("ml", "map"))
            pairs = " | ".join(f"{rmse(f.irt_a, a):.2f} / {rmse(f.irt_b, b):.2f}" for f in (ml, map_))
            biases = " | ".join(f"{np.mean(f.irt_a - a):+.2f}" for f in (ml, map_))
            print(f"| {name} | {n_answers} | {pairs} | {biases} |", flush=True)


def speed():
    print("\n| items x answers | MAP, s | ML, s | not converged |\n|---|---|---|---|")
    fit_items([], [], [0])
    for n_items, n_answers in ((10_000, 50), (10_000, 200), (2_000, 1_000)):
        _, _, *answers = simulate(np.random.default_rng(2), n_items, n_answers)
        cells, missed = [], 0
        for method in ("map", "ml"):
            seconds, fits = best_time(lambda m=method, given=answers: fit_items(*given, method=m))
            cells.append(f"{seconds:.3f}")
            missed += np.count_nonzero(fits.flags & ItemFlag.NOT_CONVERGED)
        print(f"| {n_items} x {n_answers} | {' | '.join(cells)} | {missed} |", flush=True)


def lbfgsb(theta, answers):
    """ML by one scipy call an item: the plain way."""

    def item(responses):
        sign = np.where(responses == 1, 1.0, -1.0)

        def negative(x):
            p = probability(theta, *x)
            residual = responses - p
            return np.logaddexp(0, -sign * x[0] * (theta - x[1])).sum(), -np.array(
                [residual @ (theta - x[1]), -x[0] * residual.sum()]
            )

        return optimize.minimize(negative, (1, 0), jac=True, bounds=[A_BOUNDS, B_BOUNDS], method="L-BFGS-B").x

    return np.array([item(column) for column in answers.T]).T


def girth_item_step(theta, answers):
    """ML by girth's item step. Its `twopl_jml` alternates it with a step for theta and gives no door to it alone."""
    from girth.unidimensional.dichotomous import jml_methods

    jml_methods._jml_abstract = lambda dataset, item_step, **_: item_step
    item_step = jml_methods.twopl_jml(answers.T)
    n_items = answers.shape[1]
    sign = np.where(answers.T == 1, -1.0, 1.0)
    return item_step(n_items, np.ones(n_items), theta, np.zeros(n_items), sign, np.ones(theta.size))


def mirt_m_step(theta, answers):
    """ML by mirt's M-step in Rust: students as quadrature points, each with all its weight on its own."""
    from mirt.backends.rust.mstep import m_step_dichotomous_parallel

    n_items = answers.shape[1]
    return m_step_dichotomous_parallel(
        answers.astype(int), np.eye(theta.size), theta, np.ones(n_items), np.zeros(n_items),
        max_iter=100, tol=1e-9, disc_bounds=A_BOUNDS, diff_bounds=B_BOUNDS, damping=1.0, regularization=0.0,
    )  # fmt: skip


def mirt_newton(theta, answers):
    """ML by mirt's batched Newton, which knows no bounds."""
    from mirt.estimation._logistic_newton import newton_logistic_items

    right = answers.T.astype(float)
    n_items = right.shape[0]
    slopes, intercepts, _ = newton_logistic_items(
        theta[:, None], right, np.ones_like(right), np.ones((n_items, 1)), np.zeros(n_items)
    )
    return slopes[:, 0], -intercepts / slopes[:, 0]


def peers(n_items=1000, n_students=200):
    """One matrix of students by items: the peers take no ragged answers, and no theta that differs by item."""
    rng = np.random.default_rng(3)
    theta = rng.normal(0, 1, n_students).clip(*ability([0, 1]))
    a = np.exp(rng.normal(0.1, 0.5, n_items))
    b = rng.normal(0, 1.3, n_items)
    answers = (rng.random((n_students, n_items)) < probability(theta[:, None], a, b)).astype(np.uint8)
    flat = np.tile(theta, n_items), answers.T.ravel(), np.arange(n_items + 1) * n_students

    def ours():
        return fit_items(*flat, method="ml")

    ours()
    seconds, fits = best_time(ours)
    inside = (fits.flags & (ItemFlag.AT_BOUND_A | ItemFlag.AT_BOUND_B)) == 0

    def log_likelihood(a, b):
        sign = np.where(answers == 1, 1.0, -1.0)
        return -np.logaddexp(0, -sign * np.asarray(a) * (theta[:, None] - np.asarray(b))).sum(0)

    print(f"{n_items} items x {n_students} students, ML; {np.count_nonzero(~inside)} optima on a bound\n")
    print(
        "| | s | inside: a and b within 0.001 of ours | nats short of ours, worst item on a bound |\n|---|---|---|---|"
    )
    print(f"| bkt_pipeline | {seconds:.3f} | | |")
    for name, fit in {
        "scipy L-BFGS-B an item": lbfgsb,
        "girth 0.8.0, item step": girth_item_step,
        "mirt 1.2.0, M-step": mirt_m_step,
        "mirt 1.2.0, Newton": mirt_newton,
    }.items():
        fit(theta, answers[:, :2])
        seconds, (their_a, their_b) = best_time(lambda f=fit: f(theta, answers), repeats=1)
        apart = np.maximum(np.abs(their_a - fits.irt_a), np.abs(their_b - fits.irt_b))[inside]
        agree = f"{np.mean(apart < 1e-3):.1%}, worst {apart.max():.1g}"
        in_box = (
            (their_a >= A_BOUNDS[0])
            & (their_a <= A_BOUNDS[1])
            & (their_b >= B_BOUNDS[0])
            & (their_b <= B_BOUNDS[1])
        )
        short = (fits.log_likelihood - log_likelihood(their_a, their_b))[~inside & in_box]
        worst = (
            f"{short.max():.2g} ({short.size} of {np.count_nonzero(~inside)} in the box)"
            if short.size
            else "none in the box"
        )
        print(f"| {name} | {seconds:.3f} | {agree} | {worst} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", action="store_true", help="compare with girth and mirt")
    if parser.parse_args().peers:
        peers()
    else:
        recovery()
        speed()
