"""Fits of other packages. `models.py` runs it in the environment that it makes; it does not import bkt_pipeline.

    python benchmarks/peers.py {mirt,pyBKT,pyBKT-100} IN.npz OUT.json

IN holds `responses` (flat, 0 and 1), `students` (where each sequence begins) and `skills` (which sequence each skill
begins with). OUT gets the seconds of each run and each skill's candidates from the last run: p_l0, p_transit, p_slip and
p_guess of the package's choice, or of every start if it cannot choose. Imports, a small first fit and the conversion to
the package's own form are not timed.
"""

import json
import sys
from functools import partial
from itertools import pairwise
from time import perf_counter

import numpy as np

STARTS = 5
RUNS, SLOW = 3, 30.0  # a fit that takes longer than this many seconds is not repeated


def mirt_form(sequences):
    """Students by attempts, padded with -1 for missing answers."""
    responses = np.full((len(sequences), max(map(len, sequences))), -1)
    for row, answers in zip(responses, sequences, strict=True):
        row[: answers.size] = answers
    return responses


def mirt_fit(responses):
    from mirt import fit_bkt_em

    one_skill = np.zeros(responses.shape[1], int)
    model = fit_bkt_em(responses, one_skill, n_starts=STARTS, seed=1).model
    return [[float(values[0]) for values in (model.p_init, model.p_learn, model.p_slip, model.p_guess)]]


def pybkt_form(sequences):
    """One row of 1 (wrong) and 2 (right), and where each student begins, counted from 1."""
    lengths = np.array([answers.size for answers in sequences], np.int64)
    responses = np.concatenate(sequences).astype(np.int32) + 1
    return {
        "data": responses[None, :],
        "starts": np.cumsum(lengths) - lengths + 1,
        "lengths": lengths,
        "resources": np.ones(responses.size, np.int64),
    }


def pybkt_fit(data, all_steps=False):
    """The best of several starts as the package chooses it, or all of them with 100 steps each.

    models.md says why its own stop comes too early.
    """
    import pyBKT.fit.E_step  # noqa: F401  (only the compiled build has it)
    from pyBKT.fit.EM_fit import EM_fit
    from pyBKT.generate.random_model_uni import random_model_uni

    random, stop = np.random.RandomState(1), {"tol": -1.0} if all_steps else {}
    fits = [EM_fit(random_model_uni(1, 1, rand=random), data, **stop) for _ in range(STARTS)]
    chosen = fits if all_steps else [max(fits, key=lambda fit: fit[1][-1])]
    return [
        [float(m["pi_0"][1][0]), float(m["As"][0, 1, 0]), float(m["slips"][0]), float(m["guesses"][0])]
        for m, _ in chosen
    ]


PEERS = {
    "mirt": (mirt_form, mirt_fit),
    "pyBKT": (pybkt_form, pybkt_fit),
    "pyBKT-100": (pybkt_form, partial(pybkt_fit, all_steps=True)),
}


def main(name, source, target):
    form, fit = PEERS[name]
    with np.load(source) as held:
        sequences = np.split(held["responses"], held["students"][1:-1])
        skills = [sequences[a:b] for a, b in pairwise(held["skills"])]
    data = [form(skill) for skill in skills]
    fit(form([np.array([0, 1, 1]), np.array([1])]))
    seconds = []
    while not seconds or (len(seconds) < RUNS and max(seconds) < SLOW):
        started = perf_counter()
        candidates = [fit(skill) for skill in data]
        seconds.append(perf_counter() - started)
    with open(target, "w", encoding="utf-8") as file:
        json.dump({"seconds": seconds, "candidates": candidates}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
