"""Held-out scores are those of fits that have not seen the held-out students."""

import math

import numpy as np
import pytest

from bkt_pipeline.model import (
    SAFE_DEFAULT,
    SHIPPED_PRIOR,
    BktParams,
    SchoolPrior,
    calibrate,
    held_out_scores,
    log_likelihood,
    pooled,
)
from bkt_pipeline.model.bkt.prediction import hold_out, predictions
from bkt_pipeline.model.bkt.scores import score
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests.helpers.windows import window

VIEW = simulate(BktParams(0.35, 0.03, 0.12, 0.23), n_students=150, seed=4)


def test_each_estimator_is_fitted_to_the_others_only():
    fitted, held = hold_out(VIEW)
    found = held_out_scores(VIEW)
    fit = calibrate(fitted, polished=True)
    assert found.params == {
        "grid": fit.params,
        "polished": fit.polished,
        "pooled": fit.pooled,
        "default": SAFE_DEFAULT,
    }
    assert (found.fitted_students, found.students) == (fitted.n_students, held.n_students)
    assert (found.fitted_attempts, found.attempts) == (fitted.n_attempts, held.n_attempts)
    for name, params in found.params.items():
        assert found.scores[name].log_likelihood == log_likelihood(held, params) / held.n_attempts


def test_the_constant_rate_is_that_of_the_fitted_students():
    fitted, held = hold_out(VIEW)
    found = held_out_scores(VIEW)
    rate = fitted.responses.mean()
    assert found.success_rate == rate
    expected = np.where(held.responses == 1, math.log(rate), math.log(1 - rate)).mean()
    assert found.scores["constant"].log_likelihood == pytest.approx(expected, rel=1e-12)
    assert found.scores["constant"].auc == 0.5


def test_scores_equal_their_definitions():
    params = BktParams(0.3, 0.1, 0.1, 0.2)
    found, predicted = score(VIEW, params), predictions(VIEW, params)
    right, wrong = predicted[VIEW.responses == 1][:, None], predicted[VIEW.responses == 0]
    assert found.auc == pytest.approx(np.mean((right > wrong) + 0.5 * (right == wrong)), rel=1e-12)
    assert found.rmse == pytest.approx(math.sqrt(np.mean((VIEW.responses - predicted) ** 2)), rel=1e-12)


def test_the_prior_counts_for_the_pooled_estimate_alone():
    other = SchoolPrior(SHIPPED_PRIOR.mean + 1.0, 0.1 * SHIPPED_PRIOR.covariance)
    one, two = held_out_scores(VIEW), held_out_scores(VIEW, other)
    changed = [name for name, scores in one.scores.items() if scores != two.scores[name]]
    assert changed == ["pooled"]
    assert two.params["pooled"] == pooled(hold_out(VIEW)[0], other)


@pytest.mark.parametrize("answers", [[], [[1, 0]]])
def test_too_few_students_to_hold_some_out(answers):
    assert held_out_scores(window(answers)) is None


def test_all_answers_right_leave_finite_scores():
    found = held_out_scores(window([[1, 1]] * 40))
    for scores in found.scores.values():
        assert -1 < scores.log_likelihood < 0
        assert scores.auc is None


def test_they_come_with_a_fit_where_asked_for():
    assert calibrate(VIEW).held_out is None
    assert calibrate(VIEW, scored=True).held_out == held_out_scores(VIEW)
