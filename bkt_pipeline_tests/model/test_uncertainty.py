"""Intervals cover the truth as often as they say, and are as wide as the answers leave them."""

import numpy as np
import pytest

from bkt_pipeline.model import DEFAULT_GRID, SHIPPED_PRIOR, Axis, BktParams, Grid, calibrate
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests.helpers import reference
from bkt_pipeline_tests.helpers.windows import sequences, window

NAMES = ("p_l0", "p_transit", "p_slip", "p_guess")
TRUTH = BktParams(0.33, 0.12, 0.08, 0.21)


def truths(seed, n):
    """Parameters drawn from the shipped prior, within the bounds."""
    rng = np.random.default_rng(seed)
    while n:
        draw = rng.multivariate_normal(SHIPPED_PRIOR.mean, SHIPPED_PRIOR.covariance)
        if max(draw[2:]) < 0:
            n -= 1
            yield BktParams(*(1 / (1 + np.exp(-draw))))


@pytest.mark.parametrize("n_students", [30, 300, pytest.param(3000, marks=pytest.mark.slow)])
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
        sure = calibrate(
            simulate(TRUTH, n_students=n_students, seed=3, lengths=8), estimator="pooled"
        ).uncertainty
        return np.array([getattr(sure, name).high - getattr(sure, name).low for name in NAMES])

    assert width(1000) / width(16_000) == pytest.approx(np.full(4, 4.0), rel=0.35)


@pytest.mark.parametrize("lengths", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_posterior_equals_a_sum_over_a_dense_lattice(lengths):
    view = simulate(TRUTH, n_students=60, seed=5, lengths=lengths)
    fit = calibrate(view)
    reach = 5.5 * np.sqrt(np.diag(fit.moments.covariance))
    lows = np.maximum(fit.moments.mean - reach, np.log(1e-4 / (1 - 1e-4)))
    ends = list(zip(lows, np.minimum(fit.moments.mean + reach, [9, 9, 0, 0]), strict=True))
    axes = [np.linspace(low, high, 25) for low, high in ends]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 4)
    chances = 1 / (1 + np.exp(-points))
    values = np.concatenate(
        [reference.log_likelihoods(sequences(view), part) for part in np.array_split(chances, 16)]
    )
    away = points - SHIPPED_PRIOR.mean
    values -= 0.5 * np.einsum("ni,ij,nj->n", away, np.linalg.inv(SHIPPED_PRIOR.covariance), away)
    mass = np.exp(values - values.max())
    for axis, (low, high) in zip(points.T, ends, strict=True):
        mass[(axis == low) | (axis == high)] *= 0.5
    mass /= mass.sum()
    mean, covariance = mass @ points, np.cov(points.T, aweights=mass, ddof=0)
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(fit.moments.mean / sd, mean / sd, atol=0.05)
    np.testing.assert_allclose(
        fit.moments.covariance / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.05
    )
    for name, column in zip(NAMES, chances.T, strict=True):
        own, spread = mass @ column, np.sqrt(mass @ (column - mass @ column) ** 2)
        estimate = getattr(fit.uncertainty, name)
        assert estimate.mean == pytest.approx(own, abs=0.05 * spread)
        assert estimate.sd == pytest.approx(spread, rel=0.06)


@pytest.mark.parametrize("n_students", [30_000, 200_000])
def test_a_posterior_narrower_than_a_step_contains_an_off_grid_truth(n_students):
    sure = calibrate(simulate(TRUTH, n_students=n_students, seed=2, lengths=6)).uncertainty
    for name in NAMES:
        estimate = getattr(sure, name)
        assert 0 < estimate.high - estimate.low < 0.05
        # Far beyond what chance does to an interval of the right width in the right place.
        assert abs(estimate.mean - getattr(TRUTH, name)) < 4 * estimate.sd


def test_what_is_not_identified_is_as_wide_as_the_prior():
    sure = calibrate(simulate(TRUTH, n_students=400, seed=1, lengths=1)).uncertainty
    nothing = calibrate(window([])).uncertainty
    # Not quite: the prior has p_transit go with the other parameters.
    assert sure.p_transit.high > 0.6 * nothing.p_transit.high
    assert sure.p_transit.low < 1.6 * nothing.p_transit.low
    assert sure.p_transit.profile_low == pytest.approx(1e-4)
    assert sure.p_transit.profile_high == pytest.approx(1 - 1e-4)
    assert sure.gap == pytest.approx(0, abs=1e-9)
    assert sure.n_close >= 380


def test_without_answers_the_intervals_are_those_of_the_prior():
    sure = calibrate(window([]), estimator="pooled").uncertainty
    draws = np.random.default_rng(1).multivariate_normal(
        SHIPPED_PRIOR.mean, SHIPPED_PRIOR.covariance, 400_000
    )
    draws = 1 / (1 + np.exp(-draws[(draws[:, 2:] < 0).all(axis=1)]))
    for name, column in zip(NAMES, draws.T, strict=True):
        estimate = getattr(sure, name)
        low, high = np.quantile(column, [0.025, 0.975])
        assert estimate.low == pytest.approx(low, rel=0.05)
        assert estimate.high == pytest.approx(high, rel=0.02)


@pytest.mark.parametrize("estimator", ["grid", "polished", "pooled"])
@pytest.mark.parametrize("n_students", [2, 20, 300])
def test_what_is_published_and_the_pooled_value_lie_inside_their_interval(estimator, n_students):
    for number, truth in enumerate(truths(n_students, 12)):
        view = simulate(truth, n_students=n_students, seed=number)
        fit = calibrate(view, estimator=estimator, polished=True)
        for name in NAMES:
            estimate = getattr(fit.uncertainty, name)
            for params in (fit.published, fit.pooled):
                assert estimate.low <= getattr(params, name) <= estimate.high
            assert estimate.profile_low <= getattr(fit.polished, name) <= estimate.profile_high


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
    best = own.surface(axes[0], lanes).max()
    for end in (sure.p_l0.profile_low, sure.p_l0.profile_high):
        assert best - own.surface(np.array([end]), lanes).max() == pytest.approx(1.92, abs=0.35)


def test_a_grid_of_one_point():
    point = Grid(*(Axis(value, value, 0.05) for value in (0.3, 0.1, 0.1, 0.2)))
    fit = calibrate(simulate(TRUTH, n_students=30, seed=1), point)
    assert fit.params.values == (0.3, 0.1, 0.1, 0.2)
    assert (fit.uncertainty.gap, fit.uncertainty.n_close) == (0.0, 1)
    assert point != DEFAULT_GRID
