"""Intervals cover the truth as often as they say, and are as wide as the answers leave them."""

import numpy as np
import pytest

from bkt_pipeline.model import DEFAULT_GRID, Axis, BktParams, Grid, calibrate
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests.helpers import reference
from bkt_pipeline_tests.helpers.windows import sequences, window

NAMES = ("p_l0", "p_transit", "p_slip", "p_guess")
TRUTH = BktParams(0.33, 0.12, 0.08, 0.21)


def truths(seed, n):
    rng = np.random.default_rng(seed)
    while n:
        prior, transit = rng.uniform(0.05, 0.95, 2)
        slip, guess = rng.uniform(0.05, 0.5, 2)
        if slip + guess < 1:
            n -= 1
            yield BktParams(prior, transit, slip, guess)


@pytest.mark.parametrize("n_students", [30, 300, 3000])
def test_intervals_cover_the_truth(n_students):
    # 120 skills: a true coverage of 95% stays within these bounds but once in some thousand samples; one of 85%
    # falls below them in five of six.
    n = 120
    hits = dict.fromkeys(NAMES, 0)
    for number, truth in enumerate(truths(n_students, n)):
        sure = calibrate(simulate(truth, n_students=n_students, seed=number, lengths=8)).uncertainty
        for name in NAMES:
            estimate = getattr(sure, name)
            hits[name] += estimate.low <= getattr(truth, name) <= estimate.high
    assert all(0.88 * n <= hit for hit in hits.values()), hits


def test_intervals_are_not_just_wide():
    # Four times the students, half the width.
    def width(n_students):
        sure = calibrate(simulate(TRUTH, n_students=n_students, seed=3, lengths=8)).uncertainty
        return np.array([getattr(sure, name).high - getattr(sure, name).low for name in NAMES])

    assert width(1000) / width(16_000) == pytest.approx(np.full(4, 4.0), rel=0.35)


def test_posterior_equals_a_sum_over_a_dense_lattice():
    view = simulate(TRUTH, n_students=150, seed=5, lengths=6)
    axes = [
        np.linspace(low, high, 24)
        for low, high in ((0.025, 0.975), (0.025, 0.6), (0.025, 0.35), (0.025, 0.5))
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 4)
    values = np.concatenate(
        [reference.log_likelihoods(sequences(view), part) for part in np.array_split(points, 8)]
    )
    mass = np.exp(values - values.max())
    for axis, ends in zip(points.T, axes, strict=True):
        mass[(axis == ends[0]) | (axis == ends[-1])] *= 0.5
    mass /= mass.sum()
    sure = calibrate(view).uncertainty
    for name, column in zip(NAMES, points.T, strict=True):
        mean = mass @ column
        sd = np.sqrt(mass @ (column - mean) ** 2)
        estimate = getattr(sure, name)
        assert estimate.mean == pytest.approx(mean, abs=0.1 * sd)
        assert estimate.sd == pytest.approx(sd, rel=0.1)


@pytest.mark.parametrize("n_students", [30_000, 200_000])
def test_a_posterior_narrower_than_a_step_contains_an_off_grid_truth(n_students):
    sure = calibrate(simulate(TRUTH, n_students=n_students, seed=2, lengths=6)).uncertainty
    for name in NAMES:
        estimate = getattr(sure, name)
        assert 0 < estimate.high - estimate.low < 0.05
        # Far beyond what chance does to an interval of the right width in the right place.
        assert abs(estimate.mean - getattr(TRUTH, name)) < 4 * estimate.sd


def test_what_is_not_identified_is_as_wide_as_the_grid():
    sure = calibrate(simulate(TRUTH, n_students=400, seed=1, lengths=1)).uncertainty
    assert sure.p_transit.low < 0.06
    assert sure.p_transit.high > 0.94
    assert sure.p_transit.profile_low == pytest.approx(0.025)
    assert sure.p_transit.profile_high == pytest.approx(0.975)
    assert sure.gap == pytest.approx(0, abs=1e-9)
    assert sure.n_close >= 380


def test_gap_and_close_points_are_those_of_the_surface():
    answers = sequences(simulate(TRUTH, n_students=80, seed=4, lengths=5))
    values = np.sort(reference.log_likelihoods(answers, reference.default_points()))
    sure = calibrate(window(answers)).uncertainty
    assert sure.gap == pytest.approx(values[-1] - values[-2], abs=1e-9)
    assert sure.n_close == (values >= values[-1] - 1.92).sum()


def test_profile_ends_where_the_best_of_the_others_loses_1_92():
    view = simulate(TRUTH, n_students=1500, seed=6, lengths=6)
    sure = calibrate(view).uncertainty
    own = DistinctSequences.of(view)
    estimates = [getattr(sure, name) for name in NAMES]
    axes = [np.linspace(e.mean - 4 * e.sd, e.mean + 4 * e.sd, 31) for e in estimates]
    lanes = np.stack(np.meshgrid(*axes[1:], indexing="ij"), axis=-1).reshape(-1, 3)
    best = own.surface(axes[0][:, None], lanes).max()
    for end in (sure.p_l0.profile_low, sure.p_l0.profile_high):
        assert best - own.surface(np.array([[end]]), lanes).max() == pytest.approx(1.92, abs=0.35)


def test_a_grid_over_a_range_keeps_to_its_cells():
    grid = Grid(p_l0=Axis(0.2, 0.4, 0.01), p_transit=Axis(0.1, 0.2, 0.01), p_slip=Axis(0.1, 0.1, 0.05))
    sure = calibrate(simulate(TRUTH, n_students=30, seed=1, lengths=4), grid).uncertainty
    assert 0.195 <= sure.p_l0.low < sure.p_l0.high <= 0.405
    assert 0.095 <= sure.p_transit.low < sure.p_transit.high <= 0.205
    assert 0.075 <= sure.p_slip.low < sure.p_slip.high <= 0.125


def test_a_grid_of_one_point():
    point = Grid(*(Axis(value, value, 0.05) for value in (0.3, 0.1, 0.1, 0.2)))
    fit = calibrate(simulate(TRUTH, n_students=30, seed=1), point)
    assert fit.params.values == (0.3, 0.1, 0.1, 0.2)
    assert (fit.uncertainty.gap, fit.uncertainty.n_close) == (0.0, 1)
    assert point != DEFAULT_GRID
