"""Each check passes on a sound calibration and fails on a bad one, with the numbers that show why."""

import datetime as dt
import math
from dataclasses import replace

import numpy as np
import pytest

from bkt_pipeline.calibration.baseline import History
from bkt_pipeline.calibration.check import Finding, refusal
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.skill_checks import (
    SKILL_CHECKS,
    log_likelihood_beats_chance,
    log_likelihood_holds_out,
    log_likelihood_is_finite,
    log_likelihood_is_grid_maximum,
    log_likelihood_is_in_family,
    neighbours,
    parameters_are_identified,
    skill_has_enough_attempts,
    stored_row_matches,
    verify,
)
from bkt_pipeline.calibration.skills import checked
from bkt_pipeline.calibration.window_checks import WINDOW_CHECKS, WindowCounts, verify_window
from bkt_pipeline.model import DEFAULT_GRID, AttemptWindow, BktParams, SkillFit, calibrate, log_likelihood
from bkt_pipeline.model.bkt.prediction import auc, hold_out, predictions
from bkt_pipeline.model.simulate import simulate

TRUTH = BktParams(0.3, 0.15, 0.1, 0.2)


@pytest.fixture(scope="module")
def window() -> AttemptWindow:
    return simulate(TRUTH, n_students=300, seed=1)


@pytest.fixture(scope="module")
def fit(window: AttemptWindow) -> SkillFit:
    return calibrate(window, scored=True)


def with_params(fit: SkillFit, window: AttemptWindow, **changes: float) -> SkillFit:
    """The same fit with other parameters and their true log-likelihood, like the result of a faulty search."""
    params = replace(fit.params, **changes)
    return replace(fit, params=replace(params, log_likelihood=log_likelihood(window, params)))


def assert_says_what_to_do(finding: Finding) -> None:
    assert not finding.passed
    assert {"actual", "threshold", "what_to_do"} <= set(finding.numbers)
    check = {check.name: check for check in (*SKILL_CHECKS, *WINDOW_CHECKS)}[finding.name]
    assert finding.numbers["what_to_do"] == check.what_to_do
    assert finding.error == check.error
    assert all(isinstance(n, str | int) or math.isfinite(n) for n in finding.numbers.values())


def test_a_sound_calibration_passes_every_check(window: AttemptWindow, fit: SkillFit) -> None:
    history = History((-0.55,) * 14, fit.params)
    found = {finding.name: finding.passed for finding in verify(window, fit, history)}
    assert found == dict.fromkeys(found, True)
    assert set(found) | {"skill_has_enough_attempts", "stored_row_matches"} == {
        check.name for check in SKILL_CHECKS
    }
    assert checked(window, fit, 50, history).outcome is Outcome.CALIBRATED


@pytest.mark.parametrize("wrong", [-1.0, -math.inf, 0.0])
def test_a_wrong_log_likelihood_is_refused(window: AttemptWindow, fit: SkillFit, wrong: float) -> None:
    bad = replace(fit, params=replace(fit.params, log_likelihood=wrong))
    assert_says_what_to_do(log_likelihood_is_finite(window, bad))
    verdict = checked(window, bad, 50, History())
    assert (verdict.outcome, verdict.fit) == (Outcome.FAILED, None)
    assert verdict.reason is not None
    assert verdict.reason.startswith("not published, because it fails log_likelihood_is_finite (actual ")


@pytest.mark.parametrize("name", ["p_l0", "p_transit", "p_slip", "p_guess"])
def test_a_neighbour_of_the_maximum_is_refused(window: AttemptWindow, fit: SkillFit, name: str) -> None:
    bad = with_params(fit, window, **{name: getattr(fit.params, name) + 0.05})
    finding = log_likelihood_is_grid_maximum(window, bad, DEFAULT_GRID)
    assert_says_what_to_do(finding)
    assert refusal(verify(window, bad, History())) is not None


def test_neighbours_stay_on_the_grid() -> None:
    corner = list(neighbours(BktParams(0.05, 0.95, 0.5, 0.45)))
    assert sorted(corner) == [
        (0.05, 0.9, 0.5, 0.45),
        (0.05, 0.95, 0.45, 0.45),
        (0.05, 0.95, 0.5, 0.4),
        (0.1, 0.95, 0.5, 0.45),
    ]


def alternating(window: AttemptWindow) -> np.ndarray:
    """Right, wrong, right, wrong: a pattern that knowledge tracing cannot describe."""
    return (np.arange(window.n_attempts) % 2).astype(np.uint8)


def test_alternating_answers_do_not_beat_chance(window: AttemptWindow) -> None:
    odd = replace(window, responses=alternating(window))
    finding = log_likelihood_beats_chance(odd, calibrate(odd))
    assert_says_what_to_do(finding)
    assert finding.numbers["constant_success_rate"] == pytest.approx(-math.log(2), abs=1e-3)


def test_a_fit_that_holds_for_some_students_only_fails_the_hold_out(window: AttemptWindow) -> None:
    """The held-out students answer in an impossible pattern, the others as usual."""
    _, held = hold_out(window)
    odd = np.isin(np.repeat(window.student_ids, np.diff(window.offsets)), held.student_ids)
    split = replace(window, responses=np.where(odd, alternating(window), window.responses))
    finding = log_likelihood_holds_out(split, calibrate(split, scored=True), History())
    assert_says_what_to_do(finding)
    assert finding.numbers["actual"] < finding.numbers["constant_success_rate"]


def test_a_fit_worse_than_last_nights_fails_the_hold_out(window: AttemptWindow) -> None:
    """The held-out students learn differently from the rest, and only last night's parameters fit them."""
    _, held = hold_out(window)
    slow = simulate(BktParams(0.1, 0.05, 0.05, 0.1), n_students=300, seed=2, lengths=np.diff(window.offsets))
    quick = simulate(BktParams(0.8, 0.5, 0.05, 0.3), n_students=300, seed=2, lengths=np.diff(window.offsets))
    odd = np.isin(np.repeat(window.student_ids, np.diff(window.offsets)), held.student_ids)
    mixed = replace(window, responses=np.where(odd, slow.responses, quick.responses))
    finding = log_likelihood_holds_out(
        mixed, calibrate(mixed, scored=True), History((), BktParams(0.1, 0.05, 0.05, 0.1))
    )
    assert_says_what_to_do(finding)
    assert finding.numbers["actual"] < finding.numbers["last_night_less_margin"]


def test_the_same_students_are_held_out_every_night(window: AttemptWindow) -> None:
    fitted, held = hold_out(window)
    later = simulate(TRUTH, n_students=350, seed=9)
    assert set(held.student_ids) == set(hold_out(later)[1].student_ids) & set(window.student_ids)
    assert fitted.n_attempts + held.n_attempts == window.n_attempts
    assert 0.1 < held.n_students / window.n_students < 0.3


def test_a_night_unlike_earlier_nights_fails(fit: SkillFit) -> None:
    assert fit.params.log_likelihood is not None
    own = fit.params.log_likelihood / fit.n_attempts
    nights = tuple(own + 0.1 + 0.002 * (n % 3) for n in range(14))
    assert_says_what_to_do(log_likelihood_is_in_family(fit, History(nights)))
    assert log_likelihood_is_in_family(fit, History(nights[:4])).passed
    assert not log_likelihood_is_in_family(fit, History(nights[:5])).passed
    assert log_likelihood_is_in_family(fit, History(tuple(own + 0.004 for _ in range(14)))).passed


def test_parameters_that_are_not_identified_fail(window: AttemptWindow) -> None:
    once = simulate(TRUTH, n_students=300, seed=1, lengths=1)
    finding = parameters_are_identified(calibrate(once))
    assert_says_what_to_do(finding)
    assert "no student has two attempts" in str(finding.numbers["actual"])
    few = parameters_are_identified(
        calibrate(simulate(BktParams(0.5, 0.3, 0.2, 0.2), n_students=29, seed=3, lengths=30))
    )
    assert_says_what_to_do(few)
    assert few.numbers["tier"] == "insufficient"


def test_a_row_that_differs_from_the_calibration_fails(fit: SkillFit) -> None:
    right = (*fit.params.values, fit.params.log_likelihood)
    assert stored_row_matches(fit, right).passed
    assert_says_what_to_do(stored_row_matches(fit, None))
    finding = stored_row_matches(fit, (*right[:3], 0.5, right[4]))
    assert_says_what_to_do(finding)
    assert finding.numbers["differs_in"] == "p_guess"


def test_few_attempts_fail() -> None:
    assert skill_has_enough_attempts(50, 50).passed
    assert_says_what_to_do(skill_has_enough_attempts(49, 50))


def test_window_checks(window: AttemptWindow) -> None:
    fine = verify_window(window, WindowCounts())
    assert [finding.name for finding in fine] == [check.name for check in WINDOW_CHECKS]
    assert all(finding.passed for finding in fine)
    stale = replace(window, as_of=window.as_of + dt.timedelta(days=3), ungraded=window.n_attempts)
    for finding in verify_window(stale, WindowCounts(in_future=2, tied=3)):
        assert_says_what_to_do(finding)


def test_the_likelihood_is_the_product_of_the_predictions(window: AttemptWindow) -> None:
    right = predictions(window, TRUTH)
    of_answers = np.where(window.responses == 1, right, 1.0 - right)
    assert np.log(of_answers).sum() == pytest.approx(log_likelihood(window, TRUTH), rel=1e-12)


def test_auc_is_the_share_of_pairs_in_order(window: AttemptWindow) -> None:
    predicted = np.round(predictions(window, TRUTH), 1)[:200]
    answers = window.responses[:200]
    pairs = np.subtract.outer(predicted[answers == 1], predicted[answers == 0])
    assert auc(answers, predicted) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    assert auc(np.ones(3, np.uint8), predicted[:3]) is None
