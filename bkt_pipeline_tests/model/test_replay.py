"""The replay keeps what rounding would lose; its laws are in test_properties.py."""

import math

import numpy as np
import pytest

from bkt_pipeline.errors import InvalidAttempts
from bkt_pipeline.model import BktParams, log_likelihood, predict, replay
from bkt_pipeline_tests.helpers.windows import window

TIDES = [([1] * 700 + [0] * 650) * 3]


def textbook(answers, params):
    """The contract's formulas, as they are written."""
    known = params.p_l0
    for answer in answers:
        right = known * (1 - params.p_slip) + (1 - known) * params.p_guess
        if answer:
            seen = known * (1 - params.p_slip) / right
        else:
            seen = known * params.p_slip / (known * params.p_slip + (1 - known) * (1 - params.p_guess))
        after = seen + (1 - seen) * params.p_transit
        yield known, after
        known = after


def test_short_sequences_follow_the_textbook():
    params = BktParams(0.3, 0.1, 0.1, 0.2)
    answers = [[1, 0, 0, 1, 1], [0], [1, 1]]
    view = window(answers)
    before, after = replay(view.responses, view.offsets, params)
    expected = [pair for sequence in answers for pair in textbook(sequence, params)]
    np.testing.assert_allclose(np.column_stack([before, after]), expected, rtol=1e-13)


@pytest.mark.parametrize("transit", [0.05, 0.0])
@pytest.mark.parametrize("answers", [TIDES, [[0] * 2000 + [1] * 2500]])
def test_long_runs_are_not_rounded_to_certainty_for_good(answers, transit):
    params = BktParams(0.3, transit, 0.05, 0.45)
    view = window(answers)
    before, _ = replay(view.responses, view.offsets, params)
    right = predict(before, params)
    chances = np.where(view.responses == 1, right, 1 - right)
    assert math.fsum(np.log(chances)) == pytest.approx(log_likelihood(view, params), rel=1e-12)


@pytest.mark.parametrize(
    "params",
    [(0, 0, 0, 0), (1, 1, 0, 0), (0, 1, 0.5, 0), (1, 0, 0, 0.5), (0.5, 0.5, 0, 0), (0.3, 1e-200, 0.1, 0.1)],
)
@pytest.mark.parametrize("answers", [[[0, 1, 0, 1]], [[1] * 900 + [0] * 900], [[0] * 900 + [1] * 900]])
def test_certainties_leave_numbers(params, answers):
    view = window(answers)
    for known in replay(view.responses, view.offsets, BktParams(*params)):
        assert ((known >= 0) & (known <= 1)).all()


def test_no_attempts():
    before, after = replay(np.array([], np.uint8), np.array([0]), BktParams(0.3, 0.1, 0.1, 0.2))
    assert before.size == after.size == 0


@pytest.mark.parametrize("offsets", [[0, 3], [1, 4], [0, 3, 2, 4], []])
def test_offsets_must_cut_the_answers(offsets):
    with pytest.raises(InvalidAttempts, match="do not cut 4 responses"):
        replay(np.ones(4, np.uint8), np.array(offsets, np.int64), BktParams(0.3, 0.1, 0.1, 0.2))
