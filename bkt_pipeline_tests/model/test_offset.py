"""The offset model against scipy and simulated truth, and its properties on hostile answers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from bkt_pipeline.errors import InvalidAttempts
from bkt_pipeline.model.irt.curve import probability
from bkt_pipeline.model.irt.offset import fit_offsets


def slope(d, eta, responses):
    """Of the log posterior, from the definition."""
    return (np.asarray(responses) - probability(np.asarray(eta) + d, 1.0, 0.0)).sum() - d


def scipy_fit(eta, responses):
    n = len(responses) + 1.0
    d = optimize.brentq(slope, -n, n, args=(eta, responses), xtol=1e-13)
    p = probability(np.asarray(eta) + d, 1.0, 0.0)
    return d, 1 / math.sqrt((p * (1 - p)).sum() + 1)


def fit_one(eta, responses):
    fits = fit_offsets(eta, responses, [0, len(responses)])
    return float(fits.d[0]), float(fits.se[0])


@st.composite
def items(draw, max_answers=60):
    """One item with at least one answer, at abilities from the plain to the absurd."""
    n = draw(st.integers(1, max_answers))
    spot = st.floats(-100, 100) if draw(st.booleans()) else st.floats(-7, 7)
    eta = draw(st.lists(spot, min_size=n, max_size=n))
    return np.array(eta), np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), np.uint8)


@settings(deadline=None, max_examples=200)
@given(items())
def test_agrees_with_scipy(item):
    d, se = fit_one(*item)
    assert (d, se) == pytest.approx(scipy_fit(*item), rel=1e-9, abs=1e-9)
    assert abs(slope(d, *item)) < 1e-9 * (1 + len(item[1]))
    assert 0 < se <= 1


@settings(deadline=None, max_examples=60)
@given(items(), st.randoms(use_true_random=False))
def test_the_order_of_answers_does_not_matter(item, random):
    eta, responses = item
    order = list(range(eta.size))
    random.shuffle(order)
    assert fit_one(eta[order], responses[order]) == pytest.approx(fit_one(eta, responses), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(items(), st.data())
def test_one_more_right_answer_never_makes_an_item_harder(item, data):
    eta, responses = item
    place = data.draw(st.integers(0, eta.size - 1))
    more = responses.copy()
    more[place] = 1
    assert fit_one(eta, more)[0] >= fit_one(eta, responses)[0] - 1e-9
    longer = fit_one(np.append(eta, 0.0), np.append(responses, np.uint8(1)))
    assert longer[0] > fit_one(eta, responses)[0] - 1e-9
    assert longer[1] > 0


@settings(deadline=None, max_examples=40)
@given(st.lists(items(12), min_size=1, max_size=6), st.data())
def test_neighbours_never_change_a_bit_of_an_item(group, data):
    nan = (np.array([0.0, np.nan]), np.ones(2, np.uint8))
    wrong = (np.zeros(2), np.array([0, 7], np.uint8))
    empty = (np.empty(0), np.empty(0, np.uint8))
    group = data.draw(st.permutations([*group, nan, wrong, empty]))
    together = fit_offsets(
        np.concatenate([eta for eta, _ in group]),
        np.concatenate([responses for _, responses in group]),
        np.cumsum([0, *(eta.size for eta, _ in group)]),
    )
    for i, one in enumerate(group):
        np.testing.assert_array_equal((together.d[i], together.se[i]), fit_one(*one))


def test_an_item_without_usable_answers_has_no_offset():
    fits = fit_offsets([0.0, math.nan, 0.0, 101.0, 0.3], [1, 1, 2, 0, 1], [0, 1, 2, 3, 4, 4, 5])
    assert np.isnan(fits.d).tolist() == np.isnan(fits.se).tolist() == [False, True, True, True, True, False]
    assert len(fit_offsets([], [], [0])) == 0


@pytest.mark.parametrize("n", [1, 10, 10_000])
def test_all_right_and_all_wrong_stay_finite_and_mirror_each_other(n):
    easy, hard = fit_one(np.zeros(n), np.ones(n, int)), fit_one(np.zeros(n), np.zeros(n, int))
    assert easy[0] == pytest.approx(-hard[0])
    assert 0 < easy[0] < 10
    assert easy[1] == pytest.approx(hard[1])
    # So many right answers where hardly one was expected: a full Newton step would go a thousand logits too far.
    assert 6 < fit_one(np.full(10_000, -6.9), np.ones(10_000, int))[0] < 20


def test_one_answer_moves_it_by_less_than_one_standard_deviation():
    d, se = fit_one([0.0], [1])
    assert d == pytest.approx(1 - probability(d, 1.0, 0.0))
    assert 0 < d < 1
    assert se < 1


def test_recovers_simulated_offsets_and_covers_them():
    rng = np.random.default_rng(3)
    truth = rng.normal(0, 1, 2000)
    for n, rmse in ((5, 0.8), (50, 0.4), (500, 0.15)):
        eta = rng.normal(0.3, 1, (truth.size, n))
        responses = (rng.random(eta.shape) < probability(eta + truth[:, None], 1.0, 0.0)).ravel()
        fits = fit_offsets(eta.ravel(), responses, np.arange(truth.size + 1) * n)
        assert np.sqrt(np.mean((fits.d - truth) ** 2)) < rmse
        assert np.mean(abs(fits.d - truth) < 1.96 * fits.se) == pytest.approx(0.95, abs=0.03)


def test_arrays_that_do_not_belong_together_are_refused():
    with pytest.raises(InvalidAttempts, match="over 2 answers"):
        fit_offsets([0.0, 1.0], [1, 0], [0, 1])
