"""What must hold for any answers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bkt_pipeline.model import (
    DEFAULT_GRID,
    Axis,
    BktParams,
    Grid,
    calibrate,
    calibrate_all,
    log_likelihood,
    predict,
    replay,
)
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.kernels.climb import slopes
from bkt_pipeline_tests.helpers import reference
from bkt_pipeline_tests.helpers.windows import window

sequences = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=12), min_size=1, max_size=25)
probabilities = st.floats(0.001, 0.999)
halves = st.floats(0.001, 0.499)
parameters = st.builds(BktParams, probabilities, probabilities, halves, halves)
compiled = settings(deadline=None, max_examples=60)
slow = settings(deadline=None, max_examples=15)


@compiled
@given(sequences, parameters)
def test_log_likelihood_equals_the_reference(answers, params):
    expected = reference.log_likelihood(answers, params.values)
    assert log_likelihood(window(answers), params) == pytest.approx(expected, rel=1e-12, abs=1e-13)


@slow
@given(sequences, st.randoms(use_true_random=False))
def test_permuting_students_changes_no_byte(answers, random):
    shuffled = answers[:]
    random.shuffle(shuffled)
    one, other = calibrate(window(answers)), calibrate(window(shuffled))
    assert repr(one.params) == repr(other.params)
    assert repr(one.uncertainty) == repr(other.uncertainty)
    assert one.evidence == other.evidence


@slow
@given(sequences)
def test_duplicating_all_students_doubles_the_log_likelihood(answers):
    once, twice = calibrate(window(answers)), calibrate(window(answers + answers))
    assert twice.params.log_likelihood == 2 * once.params.log_likelihood
    assert twice.params.values == once.params.values
    assert twice.uncertainty.gap == pytest.approx(2 * once.uncertainty.gap, abs=1e-9)
    assert twice.n_distinct == once.n_distinct


@settings(deadline=None, max_examples=5)
@given(st.lists(sequences, min_size=2, max_size=6))
def test_one_thread_and_eight_give_the_same_bytes(skills):
    windows = {str(number): window(answers) for number, answers in enumerate(skills)}
    one = dict(calibrate_all(windows, threads=1, polished=True))
    eight = dict(calibrate_all(windows, threads=8, polished=True))
    for key in windows:
        assert repr((one[key].params, one[key].uncertainty, one[key].polished)) == repr(
            (eight[key].params, eight[key].uncertainty, eight[key].polished)
        )


@pytest.mark.slow
@compiled
@given(sequences, st.lists(st.tuples(probabilities, probabilities, halves, halves), min_size=1, max_size=9))
def test_the_surface_takes_any_points(answers, points):
    rows = np.array(points)
    values = DistinctSequences.of(window(answers)).surface(rows[:, 0], rows[:, 1:])
    expected = reference.log_likelihoods(answers, rows)
    np.testing.assert_allclose(values.diagonal(), expected, rtol=1e-12, atol=1e-12)


@slow
@given(sequences, st.sampled_from([0.01, 0.02]), st.integers(5, 20))
def test_the_winner_of_a_finer_grid_is_its_best(answers, step, first):
    start = first / 100
    axis = Axis(start, round(start + 4 * step, 2), step)
    grid = Grid(axis, axis, axis, axis)
    points = np.array([grid.point(index) for index in range(grid.n_points)])
    values, log_likelihood_ = reference.winner(reference.log_likelihoods(answers, points), points)
    params = calibrate(window(answers), grid).params
    assert params.values == values
    assert params.log_likelihood == pytest.approx(log_likelihood_, rel=1e-12)


@compiled
@given(sequences, parameters)
def test_the_gradient_is_the_slope(answers, params):
    view = window(answers)
    own = DistinctSequences.of(view)
    at, out = np.log(np.array(params.values) / (1 - np.array(params.values))), np.empty(5)
    slopes(view.responses, view.offsets, own.students, own.counts, at, np.zeros(4), np.zeros((4, 4)), out)
    assert out[0] == pytest.approx(log_likelihood(view, params), rel=1e-12)
    for position, slope in enumerate(out[1:]):
        ends = []
        for step in (-1e-5, 1e-5):
            point = at.copy()
            point[position] += step
            ends.append(reference.log_likelihood(answers, tuple((1 / (1 + np.exp(-point))).tolist())))
        assert slope == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-4, abs=1e-4)


@compiled
@given(sequences, parameters)
def test_replay_agrees_with_the_likelihood(answers, params):
    view = window(answers)
    before, after = replay(view.responses, view.offsets, params)
    assert ((before >= 0) & (before <= 1) & (after >= 0) & (after <= 1)).all()
    right = predict(before, params)
    chances = np.where(view.responses == 1, right, 1 - right)
    assert math.fsum(np.log(chances)) == pytest.approx(log_likelihood(view, params), rel=1e-9)
    first = view.offsets[:-1]
    np.testing.assert_array_equal(before[first], params.p_l0)
    inner = np.delete(np.arange(view.n_attempts), first)
    np.testing.assert_array_equal(before[inner], after[inner - 1])


@compiled
@given(st.lists(st.integers(0, 1), max_size=30), parameters)
def test_a_right_answer_never_leaves_less_than_a_wrong_one(answers, params):
    both = window([[*answers, 0], [*answers, 1]])
    _, after = replay(both.responses, both.offsets, params)
    assert after[len(answers)] <= after[-1]


@slow
@given(sequences)
def test_intervals_are_never_empty(answers):
    sure = calibrate(window(answers)).uncertainty
    for name, top in (("p_l0", 1), ("p_transit", 1), ("p_slip", 0.5), ("p_guess", 0.5)):
        estimate = getattr(sure, name)
        assert 0 < estimate.low < estimate.high <= top
        assert estimate.low < estimate.mean < estimate.high
        assert 0 < estimate.profile_low < estimate.profile_high <= top
        assert estimate.sd > 0
    assert sure.gap >= 0
    assert 1 <= sure.n_close <= DEFAULT_GRID.n_points
