"""What a school's skills show together is the EM step that it is meant to be, in any order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bkt_pipeline.errors import InvalidParams
from bkt_pipeline.model import SHIPPED_PRIOR, BktParams, Moments, SchoolPrior, learn_prior, prior_from_moments
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests.helpers.windows import window


def some_moments(seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(4, 4))
    return Moments(rng.normal(-1, 2, 4), root @ root.T + 0.1 * np.eye(4))


def plain_step(skills):
    """The formula as it is written, in numpy."""
    mu, sigma, n = SHIPPED_PRIOR.mean, SHIPPED_PRIOR.covariance, len(skills)
    mean = (sum(skill.mean for skill in skills) + 10 * mu) / (n + 10)
    spread = sum(skill.covariance + np.outer(skill.mean - mean, skill.mean - mean) for skill in skills)
    return mean, (spread + 10 * (sigma + np.outer(mu - mean, mu - mean))) / (n + 10)


@pytest.mark.parametrize("n", [1, 7, 300])
def test_the_step_is_the_formula(n):
    skills = [some_moments(seed) for seed in range(n)]
    prior = prior_from_moments(skills)
    mean, covariance = plain_step(skills)
    np.testing.assert_allclose(prior.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(prior.covariance, covariance, rtol=1e-12)


@settings(max_examples=30)
@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_the_order_of_skills_changes_no_byte(n, random):
    skills = [some_moments(seed) for seed in range(n)]
    shuffled = skills[:]
    random.shuffle(shuffled)
    one, other = prior_from_moments(skills), prior_from_moments(shuffled)
    assert one.mean.tobytes() == other.mean.tobytes()
    assert one.covariance.tobytes() == other.covariance.tobytes()


@settings(deadline=None, max_examples=5)
@given(st.integers(2, 6), st.randoms(use_true_random=False))
def test_the_order_and_the_names_of_windows_change_no_byte(n, random):
    views = [
        simulate(BktParams(0.1 + 0.1 * seed, 0.1, 0.1, 0.2), n_students=20, seed=seed) for seed in range(n)
    ]
    one = learn_prior({f"a{i}": view for i, view in enumerate(views)})
    random.shuffle(views)
    other = learn_prior({f"b{i}": view for i, view in enumerate(views)})
    assert one.mean.tobytes() == other.mean.tobytes()
    assert one.covariance.tobytes() == other.covariance.tobytes()


def test_nothing_is_learned_from_nothing():
    assert prior_from_moments([]) == SHIPPED_PRIOR
    assert learn_prior({}) == SHIPPED_PRIOR
    assert learn_prior({"empty": window([])}) == SHIPPED_PRIOR


def test_many_skills_outweigh_the_shipped_prior():
    truth = np.array([1.0, -1.5, -2.5, -0.6])
    rng = np.random.default_rng(1)
    views = {}
    for seed in range(150):
        values = 1 / (1 + np.exp(-(truth + rng.normal(0, 0.2, 4))))
        views[str(seed)] = simulate(
            BktParams(*np.minimum(values, [1, 1, 0.5, 0.5])), n_students=200, seed=seed
        )
    prior = learn_prior(views)
    assert prior.mean == pytest.approx(truth, abs=0.35)
    assert (np.diag(prior.covariance) < np.diag(SHIPPED_PRIOR.covariance)).all()


def test_priors_are_equal_by_value_and_cannot_be_changed():
    again = SchoolPrior(SHIPPED_PRIOR.mean.copy(), SHIPPED_PRIOR.covariance.tolist())
    assert again == SHIPPED_PRIOR
    assert hash(again) == hash(SHIPPED_PRIOR)
    assert again != SchoolPrior(SHIPPED_PRIOR.mean + 1e-9, SHIPPED_PRIOR.covariance)
    assert again != Moments(SHIPPED_PRIOR.mean, SHIPPED_PRIOR.covariance)
    with pytest.raises(ValueError, match="read-only"):
        again.mean[0] = 1.0
    with pytest.raises(AttributeError):
        again.mean = np.zeros(4)
    np.testing.assert_allclose(again.precision @ again.covariance, np.eye(4), atol=1e-12)


@pytest.mark.parametrize(
    ("mean", "covariance", "message"),
    [
        (np.zeros(3), np.eye(4), r"mean has shape \(3,\)"),
        (np.zeros(4), np.eye(3), r"covariance has shape \(3, 3\)"),
        ([0, 0, np.nan, 0], np.eye(4), "mean holds a value that is not finite"),
        (np.zeros(4), np.diag([1, 1, np.inf, 1]), "covariance holds a value that is not finite"),
        (np.zeros(4), np.eye(4) + np.eye(4, k=1), "not symmetric"),
        (np.zeros(4), np.diag([1, 1, 0, 1]), "not positive definite"),
        (np.zeros(4), np.ones((4, 4)), "not positive definite"),
    ],
)
def test_what_is_not_a_prior_is_refused(mean, covariance, message):
    with pytest.raises(InvalidParams, match=message):
        SchoolPrior(mean, covariance)
