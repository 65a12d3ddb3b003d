"""The search is exact: winner and log-likelihood equal those of the reference, whatever the answers look like."""

from types import SimpleNamespace

import numpy as np
import pytest

from bkt_pipeline.errors import InvalidAttempts, InvalidSettings
from bkt_pipeline.model import (
    DEFAULT_GRID,
    SAFE_DEFAULT,
    AttemptObservation,
    Axis,
    BktParams,
    Grid,
    calibrate,
    calibrate_all,
    calibrate_skill,
    log_likelihood,
)
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests.helpers import reference
from bkt_pipeline_tests.helpers.windows import sequences, window

RNG = np.random.default_rng(7)
AXIS = np.array(reference.STEPS)
TRUTH = BktParams(0.3, 0.1, 0.1, 0.2)

SIMULATED = {
    "typical": sequences(simulate(TRUTH, n_students=60, seed=1)),
    "slow": sequences(simulate(BktParams(0.1, 0.02, 0.05, 0.3), n_students=40, seed=2)),
    "fast": sequences(simulate(BktParams(0.5, 0.8, 0.3, 0.1), n_students=40, seed=3)),
    "two-attempts": sequences(simulate(TRUTH, n_students=200, seed=4, lengths=2)),
}
HOSTILE = {
    "one right": [[1]],
    "one wrong": [[0]],
    "length 1": [[int(x)] for x in RNG.integers(0, 2, 30)],
    "all right": [[1] * n for n in (1, 3, 8, 40)],
    "all wrong": [[0] * n for n in (1, 3, 8, 40)],
    "one student": [[int(x) for x in RNG.integers(0, 2, 70)]],
    "10,000 students": sequences(simulate(TRUTH, n_students=10_000, seed=5, lengths=5)),
    "duplicates": [[0, 1, 1]] * 37 + [[1, 0]] * 64 + [[1]],
    "suffixes": [[0, 1, 1, 0, 1][i:] for i in range(5)],
    "right then wrong": [[1] * 300 + [0] * 300],
    "wrong then right": [[0] * 300 + [1] * 300, [1]],
    "length 2000": [[int(x) for x in RNG.random(2000) < 0.8], [1, 0], [0]],
    "tides": [([1] * 700 + [0] * 650) * 2],
}
CASES = SIMULATED | HOSTILE
LONGEST = ("length 2000", "tides")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * (case in LONGEST)) for case in CASES]
)
def test_surface_and_winner_equal_the_reference(case):
    answers = CASES[case]
    view = window(answers)
    surface = DistinctSequences.of(view).surface(AXIS, DEFAULT_GRID.lanes).reshape(-1)
    # Of the longest, every fifth point: of each prior, every fifth lane, beginning with another one.
    points = slice(None, None, 5 if case in LONGEST else 1)
    expected = surface.copy()
    expected[points] = reference.log_likelihoods(answers, reference.default_points()[points])
    np.testing.assert_allclose(surface, expected, rtol=1e-12, atol=1e-12)
    values, log_likelihood_ = reference.winner(expected)
    params = calibrate(view).params
    assert params.values == values
    assert params.log_likelihood == pytest.approx(log_likelihood_, rel=1e-12)
    assert repr(calibrate_skill(attempts_of(answers))) == repr(params)


def test_winner_of_many_different_sequences():
    view = simulate(TRUTH, n_students=10_000, seed=6)
    fit = calibrate(view)
    answers = sequences(view)
    assert fit.params.log_likelihood == pytest.approx(
        reference.log_likelihood(answers, fit.params.values), rel=1e-12
    )
    for neighbour in neighbours(fit.params.values):
        assert reference.log_likelihood(answers, neighbour) < fit.params.log_likelihood


def neighbours(values):
    for position in range(4):
        for step in (-0.05, 0.05):
            neighbour = list(values)
            neighbour[position] = round(neighbour[position] + step, 2)
            yield tuple(neighbour)


def test_ties_go_to_the_lexicographically_smallest():
    # With one attempt a student, transit plays no part, and slip and guess only together with the prior.
    params = calibrate(window([[1]] * 3 + [[0]] * 7)).params
    values = reference.log_likelihoods([[1]] * 3 + [[0]] * 7, reference.default_points())
    assert params.values == reference.winner(values)[0]
    assert params.p_transit == 0.05


def test_values_are_the_decimals_of_the_grid():
    values = {repr(value) for value in DEFAULT_GRID.p_l0.values}
    assert values == {f"{5 * i / 100:g}" for i in range(1, 20)}


def test_reported_log_likelihood_is_that_of_log_likelihood():
    view = simulate(TRUTH, n_students=500, seed=8)
    params = calibrate(view).params
    assert log_likelihood(view, params) == params.log_likelihood


def test_zero_slip_makes_a_wrong_answer_impossible():
    assert log_likelihood(window([[1, 0]]), BktParams(1.0, 0.0, 0.0, 0.2)) == -np.inf
    assert log_likelihood(window([[1, 1]]), BktParams(1.0, 0.0, 0.0, 0.2)) == 0.0


@pytest.mark.parametrize(
    "params", [(0.0, 0.0, 0.0, 0.0), (0.3, 1.0, 0.0, 0.0), (1.0, 0.0, 1e-9, 0.3), (0.4, 1e-9, 0.1, 1e-12)]
)
@pytest.mark.parametrize("answers", [[[0, 0, 1, 1]], [[0] * 900 + [1] * 900], [[1, 0, 1]]])
def test_log_likelihood_at_the_bounds(params, answers):
    expected = reference.log_likelihood(answers, params)
    assert log_likelihood(window(answers), BktParams(*params)) == pytest.approx(expected, rel=1e-11)


def test_a_grid_of_hundredths_over_a_range():
    view = simulate(BktParams(0.33, 0.12, 0.08, 0.21), n_students=4000, seed=9)
    grid = Grid(Axis(0.25, 0.4, 0.01), Axis(0.08, 0.16, 0.01), Axis(0.05, 0.12, 0.01), Axis(0.15, 0.27, 0.01))
    fine = calibrate(view, grid).params
    assert fine.log_likelihood > calibrate(view).params.log_likelihood
    points = np.array([grid.point(i) for i in range(grid.n_points)])
    some = points[:: len(points) // 50]
    answers = sequences(view)[:200]
    assert (
        max(reference.log_likelihoods(answers, some))
        <= calibrate(window(answers), grid).params.log_likelihood
    )
    for neighbour in neighbours(fine.values):
        assert log_likelihood(view, BktParams(*neighbour)) < fine.log_likelihood


def test_a_grid_without_points_gives_the_safe_default():
    nothing = Grid(p_slip=Axis(0.6, 0.9, 0.1))
    fit = calibrate(window([[1, 0]]), nothing)
    assert fit.params == SAFE_DEFAULT
    assert fit.params.log_likelihood is None


def test_without_answers_the_grid_has_nothing_to_choose_by():
    fit = calibrate(window([]), polished=True, scored=True)
    assert fit.params == SAFE_DEFAULT
    assert (fit.polished, fit.moments, fit.held_out) == (None, None, None)
    assert fit.evidence.flags == ()


def test_all_skills_with_any_number_of_threads():
    windows = {str(n): simulate(TRUTH, n_students=n, seed=n) for n in range(1, 120, 7)}
    one = dict(calibrate_all(windows, threads=1))
    eight = dict(calibrate_all(windows, threads=8))
    assert one == eight
    assert repr(sorted(one)) == repr(sorted(windows))


def test_a_bad_skill_does_not_stop_the_others():
    windows = {"good": window([[1, 0, 1]]), "bad": SimpleNamespace(n_attempts=3)}
    results = dict(calibrate_all(windows))
    assert isinstance(results["bad"], AttributeError)
    assert results["good"].params.log_likelihood < 0


def test_no_threads_is_an_error():
    with pytest.raises(InvalidSettings, match="threads is 0"):
        calibrate_all({}, threads=0)


def attempts_of(answers, skill="fractions-add"):
    return [
        AttemptObservation(f"s{s}", skill, answer, 1.7e9 + 60.0 * i)
        for s, sequence in enumerate(answers)
        for i, answer in enumerate(sequence)
    ]


def test_one_call_form_takes_attempts_in_any_order():
    answers = [[0, 0, 1, 1], [0, 1, 1], [1, 1, 1], [0, 0]]
    attempts = attempts_of(answers)
    params = calibrate_skill(attempts)
    assert params == calibrate(window(answers)).params
    assert calibrate_skill(attempts[::-1]) == params


def test_one_call_form_keeps_the_order_of_equal_times():
    answers = [0, 0, 1, 1, 0, 1]
    attempts = [AttemptObservation("s", "skill", answer, 5.0) for answer in answers]
    assert calibrate_skill(attempts) == calibrate(window([answers])).params


def test_one_call_form_refuses_an_empty_list():
    with pytest.raises(InvalidAttempts, match="no attempts"):
        calibrate_skill([])


def test_one_call_form_refuses_mixed_skills():
    with pytest.raises(InvalidAttempts, match=r"2 skills.*one skill at a time"):
        calibrate_skill(attempts_of([[1]], "a") + attempts_of([[1]], "b"))


def test_one_call_form_refuses_other_things():
    with pytest.raises(InvalidAttempts, match="number 1 is a tuple"):
        calibrate_skill([*attempts_of([[1]]), ("s", "skill", 1, 2.0)])
