"""The pooled estimate is the mode that it is defined as, and goes from the prior's to the data's with the answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from bkt_pipeline.model import (
    SHIPPED_PRIOR,
    BktParams,
    SchoolPrior,
    calibrate,
    calibrate_all,
    log_likelihood,
    moments,
    pooled,
)
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests.helpers import reference
from bkt_pipeline_tests.helpers.windows import sequences, window

answers_of_skill = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=10), min_size=1, max_size=20)
slow = settings(deadline=None, max_examples=15)
LOW = np.log(1e-4 / (1 - 1e-4))
BOUNDS = [(LOW, -LOW), (LOW, -LOW), (LOW, 0.0), (LOW, 0.0)]


@st.composite
def priors(draw):
    root = np.random.default_rng(draw(st.integers(0, 999))).normal(size=(4, 4))
    mean = np.array([draw(st.floats(-3, 1)) for _ in range(4)])
    return SchoolPrior(mean, 0.3 * (root @ root.T) + 0.3 * np.eye(4))


def at(params):
    values = np.array(params.values)
    return np.log(values / (1 - values))


def objective(answers, prior, point):
    away = point - prior.mean
    values = tuple((1 / (1 + np.exp(-point))).tolist())
    return reference.log_likelihood(answers, values) - 0.5 * away @ np.linalg.solve(prior.covariance, away)


@slow
@given(answers_of_skill, priors())
def test_the_mode_is_a_maximum(answers, prior):
    point = at(pooled(window(answers), prior))
    for k, (low, high) in enumerate(BOUNDS):
        near = [point.copy(), point.copy()]
        near[0][k] -= 1e-4
        near[1][k] += 1e-4
        slope = (objective(answers, prior, near[1]) - objective(answers, prior, near[0])) / 2e-4
        # A slope may only press against a bound.
        assert slope < 1e-3 or point[k] > high - 1e-3
        assert slope > -1e-3 or point[k] < low + 1e-3


@slow
@given(answers_of_skill, priors())
def test_no_climb_of_scipys_ends_higher(answers, prior):
    found = objective(answers, prior, at(pooled(window(answers), prior)))
    for start in ([0, -3, -1.5, -1], [2, -6, -3, -0.5], [-2, 1, -0.5, -3]):
        result = minimize(
            lambda point: -objective(answers, prior, point), start, method="L-BFGS-B", bounds=BOUNDS
        )
        assert found >= -result.fun - 1e-5


@slow
@given(answers_of_skill, st.randoms(use_true_random=False))
def test_permuting_students_changes_no_byte(answers, random):
    shuffled = answers[:]
    random.shuffle(shuffled)
    one, other = (calibrate(window(each), polished=True) for each in (answers, shuffled))
    assert repr((one.pooled, one.polished)) == repr((other.pooled, other.polished))
    assert one.moments.mean.tobytes() == other.moments.mean.tobytes()
    assert one.moments.covariance.tobytes() == other.moments.covariance.tobytes()


@settings(deadline=None, max_examples=5)
@given(st.lists(answers_of_skill, min_size=2, max_size=6))
def test_threads_and_the_order_of_skills_change_no_byte(skills):
    windows = {str(number): window(answers) for number, answers in enumerate(skills)}
    backwards = dict(reversed(windows.items()))
    one = dict(calibrate_all(windows, threads=1, polished=True, scored=True))
    eight = dict(calibrate_all(backwards, threads=8, polished=True, scored=True))
    for key in windows:
        assert one[key] == eight[key]
        assert repr((one[key].pooled, one[key].moments)) == repr((eight[key].pooled, eight[key].moments))


def short_of_optimum(answers, copies):
    """Nats, for one copy of the answers, that pooled gives away when so many copies were answered."""
    best = calibrate(window(answers), polished=True).polished.log_likelihood
    return best - pooled(window(answers * copies)).log_likelihood / copies


@slow
@given(answers_of_skill)
def test_doubling_all_students_moves_pooled_towards_the_polished_optimum(answers):
    once, twice, many = (short_of_optimum(answers, copies) for copies in (1, 2, 64))
    assert once >= twice - 1e-6
    assert twice >= many - 1e-6


def test_with_enough_answers_pooled_is_the_polished_optimum():
    answers = sequences(simulate(BktParams(0.8, 0.3, 0.05, 0.45), n_students=20, seed=3, lengths=6))
    assert short_of_optimum(answers, 1) > 1.0
    assert 0 <= short_of_optimum(answers, 1024) < 0.005


@settings(deadline=None, max_examples=20)
@given(priors())
def test_without_answers_it_is_the_mode_of_the_prior(prior):
    found = pooled(window([]), prior)
    assert found.log_likelihood == 0.0
    inside = all(low <= value <= high for value, (low, high) in zip(prior.mean, BOUNDS, strict=True))
    if inside:
        assert at(found) == pytest.approx(prior.mean, abs=1e-5)
    result = minimize(lambda point: -objective([], prior, point), [0, -1, -1, -1], bounds=BOUNDS)
    assert objective([], prior, at(found)) >= -result.fun - 1e-5


def test_without_answers_a_fit_is_the_shipped_priors():
    fit = calibrate(window([]), estimator="pooled")
    assert fit.published == fit.pooled
    assert [round(value, 3) for value in fit.pooled.values] == [0.53, 0.056, 0.196, 0.269]


@pytest.mark.parametrize(
    "answers", [[[1]], [[0]], [[1] * 9] * 9, [[0] * 9] * 9, [[0, 1]] * 9, [[1, 0]] * 900]
)
def test_whatever_the_answers_it_is_within_bounds(answers):
    view = window(answers)
    found = pooled(view)
    assert found.log_likelihood == log_likelihood(view, found)
    assert found.p_slip + found.p_guess < 1


def test_long_sequences_do_not_get_lost():
    fit = calibrate(window([([1] * 700 + [0] * 650) * 3]))
    assert np.isfinite(fit.pooled.log_likelihood)
    assert np.isfinite(fit.moments.covariance).all()


def test_moments_do_not_depend_on_the_prior_of_the_fit():
    view = simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=40, seed=1)
    other = SchoolPrior(SHIPPED_PRIOR.mean + 0.5, 0.5 * SHIPPED_PRIOR.covariance)
    fit, alone = calibrate(view, prior=other), moments(view)
    # Not to the last byte: another prior may have another lattice.
    sd = np.sqrt(np.diag(alone.covariance))
    assert fit.moments.mean / sd == pytest.approx(alone.mean / sd, abs=0.05)
    np.testing.assert_allclose(
        fit.moments.covariance / np.outer(sd, sd), alone.covariance / np.outer(sd, sd), atol=0.05
    )
    assert fit.pooled != calibrate(view).pooled
    assert fit.params == calibrate(view).params
