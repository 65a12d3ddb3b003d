import numpy as np
import pytest

from bkt_pipeline.errors import InvalidAttempts
from bkt_pipeline.model.irt.items import (
    SkillAnswers,
    calibrate_items,
    right_answers,
    theta_by_mastery,
    theta_by_replay,
)
from bkt_pipeline.model.irt.two_pl import ability, fit_item
from bkt_pipeline.model.params import BktParams

PARAMS = BktParams(0.3, 0.15, 0.1, 0.2)


def answers(n_students: int = 60, length: int = 12, n_items: int = 5, seed: int = 1) -> SkillAnswers:
    rng = np.random.default_rng(seed)
    n = n_students * length
    return SkillAnswers(
        "skill",
        tuple(f"item {number}" for number in range(n_items)),
        rng.integers(0, n_items, n),
        rng.integers(0, 2, n).astype(np.uint8),
        np.arange(n_students + 1) * length,
        mastery=rng.random(n_students),
    )


def flipped(given: SkillAnswers, place: int) -> SkillAnswers:
    responses = given.responses.copy()
    responses[place] ^= 1
    return SkillAnswers(given.skill_id, given.item_ids, given.items, responses, given.offsets)


def test_theta_is_the_logit_of_mastery_just_before_the_answer() -> None:
    given = SkillAnswers(
        "s", ("i", "j"), np.array([0, 1, 0, 0]), np.array([1, 0, 1, 1], np.uint8), np.array([0, 3, 4])
    )
    p_l0, p_transit, p_slip, p_guess = PARAMS.values
    expected = []
    for sequence in ([1, 0, 1], [1]):
        known = p_l0
        for right in sequence:
            expected.append(known)
            of_known, of_unknown = (1 - p_slip, p_guess) if right else (p_slip, 1 - p_guess)
            posterior = known * of_known / (known * of_known + (1 - known) * of_unknown)
            known = posterior + (1 - posterior) * p_transit
    assert theta_by_replay(given, PARAMS) == pytest.approx(ability(expected), abs=1e-12)


def test_no_answer_enters_its_own_theta_nor_an_earlier_one() -> None:
    given = answers(n_students=4, length=6)
    theta = theta_by_replay(given, PARAMS)
    for place in range(given.n_answers):
        other = theta_by_replay(flipped(given, place), PARAMS)
        end = given.offsets[np.searchsorted(given.offsets, place, side="right")]
        later = np.arange(place + 1, end)
        assert np.array_equal(np.delete(other, later), np.delete(theta, later))
        assert np.all(other[later[:1]] != theta[later[:1]])


def test_theta_by_mastery_is_one_value_a_student() -> None:
    given = answers(n_students=3, length=2)
    assert np.array_equal(theta_by_mastery(given), np.repeat(ability(given.mastery), 2))


def test_mastery_that_was_not_read_is_missed() -> None:
    with pytest.raises(InvalidAttempts, match="without mastery"):
        theta_by_mastery(flipped(answers(), 0))


def test_every_item_is_fitted_to_its_own_answers() -> None:
    given = answers()
    theta = theta_by_replay(given, PARAMS)
    items = calibrate_items(given, theta, min_answers=30)
    assert items.item_ids == given.item_ids
    for place in range(len(items)):
        own = given.items == place
        alone = fit_item(theta[own], given.responses[own], min_answers=30)
        assert str(items.fits[place]) == str(alone), "as text, for nan is not nan"
        assert right_answers(given)[place] == given.responses[own].sum()


def test_a_skill_without_answers_has_no_items() -> None:
    none = np.array([], np.int64)
    empty = SkillAnswers("s", (), none, none.astype(np.uint8), np.array([0]))
    assert len(calibrate_items(empty, theta_by_replay(empty, PARAMS))) == 0


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(InvalidAttempts, match="do not fit together"):
        SkillAnswers("s", ("i",), np.array([0, 1]), np.array([1, 1], np.uint8), np.array([0, 2]))
    assert "item" not in repr(answers()).replace("items", "")
