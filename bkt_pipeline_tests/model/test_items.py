import numpy as np
import pytest

from bkt_pipeline.errors import InvalidAttempts
from bkt_pipeline.model.bkt.replay import predict
from bkt_pipeline.model.irt.answers import SkillAnswers, by_item, right_answers
from bkt_pipeline.model.irt.curve import ability
from bkt_pipeline.model.irt.fits import ItemFlag
from bkt_pipeline.model.irt.items import (
    SkillItems,
    calibrate_items,
    calibrate_skills,
    published,
    theta_by_mastery,
    theta_by_replay,
)
from bkt_pipeline.model.irt.offset import fit_offsets
from bkt_pipeline.model.irt.two_pl import fit_item, item_moments
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


def test_theta_is_the_logit_of_the_p_right_predicted_before_the_answer() -> None:
    given = SkillAnswers(
        "s", ("i", "j"), np.array([0, 1, 0, 0]), np.array([1, 0, 1, 1], np.uint8), np.array([0, 3, 4])
    )
    p_l0, p_transit, p_slip, p_guess = PARAMS.values
    expected = []
    for sequence in ([1, 0, 1], [1]):
        known = p_l0
        for right in sequence:
            expected.append(known * (1 - p_slip) + (1 - known) * p_guess)
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
    assert given.mastery is not None
    expected = np.repeat(ability(predict(given.mastery, PARAMS)), 2)
    assert np.array_equal(theta_by_mastery(given, PARAMS), expected)


def test_mastery_that_was_not_read_is_missed() -> None:
    with pytest.raises(InvalidAttempts, match="without mastery"):
        theta_by_mastery(flipped(answers(), 0), PARAMS)


def test_every_item_is_fitted_to_its_own_answers_whichever_skills_are_fitted_with_it() -> None:
    given, others = answers(), [answers(n_items=n, seed=n) for n in (1, 9)]
    skills = [others[0], given, others[1]]
    theta = theta_by_replay(given, PARAMS)
    thetas = [theta_by_replay(skill, PARAMS) for skill in skills]
    _, items, _ = calibrate_skills(skills, thetas, min_answers=30)
    assert items.item_ids == given.item_ids
    for place in range(len(items)):
        own = given.items == place
        alone = fit_item(theta[own], given.responses[own], min_answers=30)
        assert str(items.fits[place]) == str(alone), "as text, for nan is not nan"
        assert right_answers(given)[place] == given.responses[own].sum()
        offset = fit_offsets(theta[own], given.responses[own], [0, own.sum()])
        assert (items.offsets.d[place], items.offsets.se[place]) == (offset.d[0], offset.se[0])
    by_its_items, _ = by_item([given], [theta])
    assert items.moments == item_moments(*by_its_items, min_answers=30)


def test_a_skill_without_answers_has_no_items() -> None:
    none = np.array([], np.int64)
    empty = SkillAnswers("s", (), none, none.astype(np.uint8), np.array([0]))
    assert len(calibrate_items(empty, theta_by_replay(empty, PARAMS))) == 0


def with_a_one_sided_item() -> SkillItems:
    given = answers(n_items=3)
    responses = np.where(given.items == 1, 1, given.responses).astype(np.uint8)
    given = SkillAnswers(given.skill_id, given.item_ids, given.items, responses, given.offsets)
    return calibrate_items(given, theta_by_replay(given, PARAMS))


def test_the_platform_gets_the_2pl_or_the_offset_as_a_curve_of_slope_1() -> None:
    items = with_a_one_sided_item()
    a, b = published(items, "2pl")
    assert np.array_equal(a, items.fits.irt_a, equal_nan=True)
    assert np.array_equal(b, items.fits.irt_b, equal_nan=True)
    a, b = published(items, "offset")
    assert np.array_equal(a, [1, np.nan, 1], equal_nan=True)
    assert np.array_equal(b[[0, 2]], -items.offsets.d[[0, 2]])


def test_an_item_that_everybody_got_right_keeps_its_offset_but_is_not_published() -> None:
    items = with_a_one_sided_item()
    assert items.fits[1].flags & ItemFlag.ALL_RIGHT
    assert items.offsets.d[1] > 1
    for values in (*published(items, "2pl"), *published(items, "offset")):
        assert np.isnan(values).tolist() == [False, True, False]


def test_a_choice_of_items_keeps_each_fit_at_its_item() -> None:
    items = with_a_one_sided_item()
    some = items.only(np.array([False, True, True]))
    assert some.item_ids == items.item_ids[1:]
    assert str(some.fits[0]) == str(items.fits[1])
    assert some.offsets.d.tolist() == items.offsets.d[1:].tolist()


def test_a_choice_of_students_keeps_each_sequence_whole() -> None:
    given = answers(n_students=5, length=3)
    some = given.of_students(np.array([False, True, False, True, True]))
    rows = given.responses.reshape(5, 3), given.items.reshape(5, 3)
    assert some.offsets.tolist() == [0, 3, 6, 9]
    assert np.array_equal(some.responses, rows[0][[1, 3, 4]].ravel())
    assert np.array_equal(some.items, rows[1][[1, 3, 4]].ravel())
    assert given.mastery is not None
    assert some.mastery is not None
    assert some.mastery.tolist() == given.mastery[[1, 3, 4]].tolist()


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(InvalidAttempts, match="do not fit together"):
        SkillAnswers("s", ("i",), np.array([0, 1]), np.array([1, 1], np.uint8), np.array([0, 2]))
    assert "item" not in repr(answers()).replace("items", "")
