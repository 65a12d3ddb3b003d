"""The polish reaches a continuous optimum, and never loses to the grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bkt_pipeline.model import BktParams, Grid, calibrate, log_likelihood, polish
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.optimum import COARSE, HIGH, LOW, lattice, logits, values_at
from bkt_pipeline.model.bkt.search import search
from bkt_pipeline.model.kernels.climb import climb
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests.helpers.windows import window


@pytest.mark.parametrize("seed", range(6))
def test_no_point_nearby_is_better(seed):
    view = simulate(BktParams(0.33, 0.07, 0.13, 0.22), n_students=300, seed=seed)
    found = calibrate(view, polished=True).polished
    assert found.log_likelihood == log_likelihood(view, found)
    for position in range(4):
        for step in (-0.003, 0.003):
            near = list(found.values)
            near[position] = min(max(near[position] + step, 1e-4), 0.5 if position > 1 else 1 - 1e-4)
            assert log_likelihood(view, BktParams(*near)) <= found.log_likelihood + 1e-6


def test_slow_learning_is_found_below_the_grid():
    view = simulate(BktParams(0.2, 0.01, 0.1, 0.2), n_students=5000, seed=1)
    fit = calibrate(view, polished=True)
    assert fit.params.p_transit == 0.05
    assert fit.polished.p_transit == pytest.approx(0.01, abs=0.004)
    assert fit.polished.log_likelihood > fit.params.log_likelihood


@pytest.mark.parametrize("answers", [[[1]], [[0]], [[1, 1, 1]], [[0, 0]], [[0, 1]] * 9, [[1, 0]] * 9])
def test_never_worse_than_the_grid(answers):
    fit = calibrate(window(answers), polished=True)
    assert fit.polished.log_likelihood >= fit.params.log_likelihood
    assert fit.polished.p_slip <= 0.5
    assert fit.polished.p_guess <= 0.5


def test_bounds_of_the_grid_hold():
    view = simulate(BktParams(0.3, 0.1, 0.3, 0.4), n_students=500, seed=2)
    found = calibrate(view, Grid(max_slip=0.1, max_guess=0.2), polished=True).polished
    assert found.p_slip <= 0.1
    assert found.p_guess <= 0.2


def test_long_sequences_do_not_get_lost():
    view = window([([1] * 700 + [0] * 650) * 3])
    fit = calibrate(view, polished=True)
    assert fit.polished.log_likelihood >= fit.params.log_likelihood


def test_it_is_opt_in():
    view = window([[0, 1]])
    fit = calibrate(view)
    assert fit.polished is None
    assert polish(view, fit.params).log_likelihood >= fit.params.log_likelihood


@pytest.mark.parametrize(
    ("truth", "n_students", "seed", "gain"),
    [((0.4, 0.0, 0.21, 0.41), 32, 1113, 3.0), ((0.43, 0.01, 0.19, 0.38), 21, 1412, 0.8)],
)
def test_of_two_optima_the_higher_one_is_found(truth, n_students, seed, gain):
    view = simulate(BktParams(*truth), n_students=n_students, seed=seed)
    answers = DistinctSequences.of(view)
    winner, _ = search(view.responses, view.offsets, answers)
    lower = np.empty(4)
    none = np.zeros(4), np.zeros((4, 4))
    sequences = (view.responses, view.offsets, answers.students, answers.counts)
    climb(*sequences, logits([winner.values]), *none, LOW, HIGH, lower)
    found = polish(view, winner)
    assert found.log_likelihood > log_likelihood(view, BktParams(*values_at(lower))) + gain
    assert found.log_likelihood >= lattice(answers, COARSE).max()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=8), min_size=1, max_size=15))
def test_it_ends_below_no_point_of_the_lattice(answers):
    view = window(answers)
    own = DistinctSequences.of(view)
    fit = calibrate(view, polished=True)
    # Where slip and guess both end at 0.5, their sum is kept a millionth below 1.
    assert fit.polished.log_likelihood >= lattice(own, COARSE).max() - 1e-5 * view.n_attempts
    assert fit.polished.log_likelihood >= fit.params.log_likelihood
