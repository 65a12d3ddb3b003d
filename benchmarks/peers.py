"""Fits of other packages, run by `models.py` in the environment that it makes; knows nothing of bkt_pipeline.

    python benchmarks/peers.py {mirt,pyBKT} IN.npz OUT.json

IN holds `responses` (flat, 0 and 1), `students` (where each sequence begins) and `skills` (where each skill begins
among the sequences). OUT gets the seconds of each run and, of the last one, p_l0, p_transit, p_slip and p_guess of
each skill. Bringing the data into the package's own form is not counted, imports and a first small fit neither.
"""

import json
import sys
from itertools import pairwise
from time import perf_counter

import numpy as np

STARTS = 5
# A fit is repeated while it is this quick.
RUNS, QUICK = 3, 30.0


def mirt_form(sequences):
    """Students by attempts; where a student has no more, -1: missing answers at the end tell nothing."""
    responses = np.full((len(sequences), max(map(len, sequences))), -1)
    for row, answers in zip(responses, sequences, strict=True):
        row[: answers.size] = answers
    return responses


def mirt_fit(responses):
    from mirt import fit_bkt_em

    one_skill = np.zeros(responses.shape[1], int)
    model = fit_bkt_em(responses, one_skill, n_starts=STARTS, seed=1).model
    return [float(values[0]) for values in (model.p_init, model.p_learn, model.p_slip, model.p_guess)]


def pybkt_form(sequences):
    """One row of 1 (wrong) and 2 (right), and where each student's part begins, from 1 on."""
    lengths = np.array([answers.size for answers in sequences], np.int64)
    responses = np.concatenate(sequences).astype(np.int32) + 1
    return {
        "data": responses[None, :],
        "starts": np.cumsum(lengths) - lengths + 1,
        "lengths": lengths,
        "resources": np.ones(responses.size, np.int64),
    }


def pybkt_fit(data):
    """The best of some starts, as its `Model.fit` does it, without pandas around it."""
    import pyBKT.fit.E_step  # noqa: F401  (the compiled one: absent where pip fell back to the pure Python build)
    from pyBKT.fit.EM_fit import EM_fit
    from pyBKT.generate.random_model_uni import random_model_uni

    random = np.random.RandomState(1)
    fits = [EM_fit(random_model_uni(1, 1, rand=random), data) for _ in range(STARTS)]
    model, _ = max(fits, key=lambda fit: fit[1][-1])
    values = model["pi_0"][1][0], model["As"][0, 1, 0], model["slips"][0], model["guesses"][0]
    return [float(value) for value in values]


PEERS = {"mirt": (mirt_form, mirt_fit), "pyBKT": (pybkt_form, pybkt_fit)}


def main(name, source, target):
    form, fit = PEERS[name]
    with np.load(source) as held:
        sequences = np.split(held["responses"], held["students"][1:-1])
        skills = [sequences[a:b] for a, b in pairwise(held["skills"])]
    data = [form(skill) for skill in skills]
    fit(form([np.array([0, 1, 1]), np.array([1])]))
    seconds = []
    while not seconds or (len(seconds) < RUNS and max(seconds) < QUICK):
        started = perf_counter()
        params = [fit(skill) for skill in data]
        seconds.append(perf_counter() - started)
    with open(target, "w", encoding="utf-8") as file:
        json.dump({"seconds": seconds, "params": params}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
