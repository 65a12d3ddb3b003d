"""The prior of the 2PL: what items teach, against the definition, and where it must not move."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.model.irt.curve import probability
from bkt_pipeline.model.irt.prior import SHIPPED_ITEM_PRIOR, ItemMoments, ItemPrior, learn_item_prior
from bkt_pipeline.model.irt.two_pl import fit_item, item_moments

MEAN, COVARIANCE = np.zeros(2), np.diag([0.35**2, 1.0])


def answers(rng, a, b, n):
    theta = rng.normal(size=(len(a), n))
    responses = rng.random(theta.shape) < probability(theta, a[:, None], b[:, None])
    return theta, responses.astype(np.uint8)


def flat(theta, responses):
    return theta.ravel(), responses.ravel(), np.arange(len(theta) + 1) * theta.shape[1]


def by_definition(modes, covariances):
    """The EM step as it is written in the module's docstring."""
    n = len(modes)
    mean = (modes.sum(0) + 10 * MEAN) / (n + 10)
    spread = sum(c + np.outer(m - mean, m - mean) for m, c in zip(modes, covariances, strict=True))
    return mean, (spread + 10 * (COVARIANCE + np.outer(MEAN - mean, MEAN - mean))) / (n + 10)


def moments_of(modes, covariances):
    return ItemMoments.of(modes, np.array([[c[0, 0], c[0, 1], c[1, 1]] for c in covariances]).reshape(-1, 3))


def values(prior):
    return (
        prior.mean_log_a,
        prior.mean_b,
        np.array([[prior.var_log_a, prior.cov_log_a_b], [prior.cov_log_a_b, prior.var_b]]),
    )


@st.composite
def posteriors(draw):
    n = draw(st.integers(0, 8))
    number = st.floats(-3, 3)
    modes = np.array(draw(st.lists(st.tuples(number, number), min_size=n, max_size=n))).reshape(n, 2)
    roots = draw(st.lists(st.tuples(number, number, number), min_size=n, max_size=n))
    return modes, [np.array([[x * x + 0.01, x * y], [x * y, y * y + z * z + 0.01]]) for x, y, z in roots]


@settings(deadline=None, max_examples=100)
@given(st.lists(posteriors(), max_size=4), st.randoms(use_true_random=False))
def test_the_step_is_the_definition_and_the_order_of_skills_leaves_no_trace(skills, random):
    learned = learn_item_prior(moments_of(*skill) for skill in skills)
    mean, covariance = by_definition(
        np.concatenate([np.empty((0, 2)), *(modes for modes, _ in skills)]),
        [c for _, cs in skills for c in cs],
    )
    log_a, b, found = values(learned)
    assert (log_a, b) == pytest.approx(mean, abs=1e-12)
    np.testing.assert_allclose(found, covariance, rtol=1e-9, atol=1e-12)
    assert np.linalg.eigvalsh(found).min() > 0
    random.shuffle(skills)
    assert learn_item_prior(moments_of(*skill) for skill in skills) == learned


def test_moments_are_the_mode_and_the_inverse_curvature_in_log_a_and_b():
    rng = np.random.default_rng(1)
    theta, responses = answers(rng, np.array([1.3]), np.array([-0.4]), 80)
    found = item_moments(*flat(theta, responses))
    fit = fit_item(theta[0], responses[0])
    mode = np.array([math.log(fit.irt_a), fit.irt_b])

    def log_posterior(u):
        p = probability(theta[0], math.exp(u[0]), u[1])
        likelihood = np.log(np.where(responses[0] == 1, p, 1 - p)).sum()
        return likelihood - 0.5 * (u[0] ** 2 / 0.35**2 + u[1] ** 2)

    h = 1e-4
    steps = h * np.eye(2)
    hessian = [
        [
            (log_posterior(mode + x + y) - log_posterior(mode + x - y) - log_posterior(mode - x + y)
             + log_posterior(mode - x - y)) / (4 * h * h)
            for x in steps
        ]
        for y in steps
    ]  # fmt: skip
    covariance = np.linalg.inv(-np.array(hessian))
    assert found.n_items == 1
    assert (found.log_a, found.b) == pytest.approx(mode, abs=1e-12)
    second = (found.log_a_log_a, found.log_a_b, found.b_b)
    expected = covariance + np.outer(mode, mode)
    assert second == pytest.approx((expected[0, 0], expected[0, 1], expected[1, 1]), rel=1e-4, abs=1e-6)


def test_items_that_get_no_parameters_teach_nothing():
    theta = np.linspace(-2, 2, 60)
    one_sided = np.ones(60, int)
    short = np.arange(10) % 2
    nan = np.where(np.arange(60) == 3, np.nan, theta)
    found = item_moments(
        np.concatenate([theta, theta[:10], nan, theta]),
        np.concatenate([one_sided, short, np.arange(60) % 2, np.arange(60) % 2]),
        [0, 60, 70, 130, 190],
    )
    assert found.n_items == 1
    assert learn_item_prior([]) == learn_item_prior([ItemMoments()]) == SHIPPED_ITEM_PRIOR


def test_a_school_prior_comes_near_the_school_and_predicts_its_items_better():
    rng = np.random.default_rng(5)
    a, b = np.exp(rng.normal(0.4, 0.2, 600)), rng.normal(0.5, 0.4, 600)
    learned = learn_item_prior([item_moments(*flat(*answers(rng, a, b, 400)))])
    assert learned.mean_log_a == pytest.approx(0.4, abs=0.08)
    assert learned.mean_b == pytest.approx(0.5, abs=0.08)
    assert math.sqrt(learned.var_log_a) == pytest.approx(0.2, abs=0.08)
    assert math.sqrt(learned.var_b) == pytest.approx(0.4, abs=0.08)
    theta, responses = answers(rng, a, b, 60)
    error = {
        prior: np.mean([
            abs(fit_item(t, r, prior=prior).irt_a - truth)
            for t, r, truth in zip(theta, responses, a, strict=True) if 0 < r.sum() < 60
        ])
        for prior in (SHIPPED_ITEM_PRIOR, learned)
    }  # fmt: skip
    assert error[learned] < 0.9 * error[SHIPPED_ITEM_PRIOR]


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ((math.nan, 0, 1, 0, 1), "finite"),
        ((0, 0, 0, 0, 1), "var_log_a is 0"),
        ((0, 0, 1, 0, -1), "var_b is -1"),
        ((0, 0, 1, 1, 1), "positive definite"),
    ],
)
def test_numbers_that_are_not_a_distribution_are_refused(numbers, says):
    with pytest.raises(InvalidSettings, match=says):
        ItemPrior(*numbers)


def test_the_precision_is_the_inverse_covariance():
    prior = ItemPrior(0.1, 0.2, 0.5, 0.3, 2.0)
    on_log_a, on_both, on_b = prior.precision
    product = np.array([[on_log_a, on_both], [on_both, on_b]]) @ [[0.5, 0.3], [0.3, 2.0]]
    np.testing.assert_allclose(product, np.eye(2), atol=1e-12)
