"""Each check passes on sound items and fails on bad ones, with the numbers that show why."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from bkt_pipeline.calibration.check import Finding
from bkt_pipeline.calibration.comparison import item_sentence
from bkt_pipeline.calibration.item_checks import (
    ITEM_CHECKS,
    inside_bounds,
    item_parameters_inside_bounds,
    items_have_enough_answers,
    log_likelihood_beats_constant,
    stored_row_matches,
)
from bkt_pipeline.calibration.items import ItemOptions, judge_items
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.model.irt.answers import SkillAnswers
from bkt_pipeline.model.irt.comparison import ItemComparison
from bkt_pipeline.model.irt.curve import probability
from bkt_pipeline.model.irt.items import SkillItems
from bkt_pipeline.model.irt.offset import fit_offsets
from bkt_pipeline.model.irt.two_pl import A_BOUNDS, B_BOUNDS, fit_items
from bkt_pipeline.model.params import BktParams

COMPARED = ItemComparison(500, bkt=-0.60, success_rate=-0.62, two_pl=-0.59, offset=-0.58)


@pytest.fixture(scope="module")
def sound() -> SkillItems:
    rng = np.random.default_rng(1)
    theta = rng.normal(size=1200)
    responses = rng.random(1200) < probability(theta, 1.2, 0.3)
    responses[900:1190] = True
    given = theta, responses, [0, 400, 800, 900, 1190, 1200]
    return SkillItems("s", ("a", "b", "c", "all right", "few"), fit_items(*given), fit_offsets(*given))


def changed(items: SkillItems, place: int, **values: float) -> SkillItems:
    arrays = {name: getattr(items.fits, name).copy() for name in values}
    for name, value in values.items():
        arrays[name][place] = value
    return replace(items, fits=replace(items.fits, **arrays))


def rows(items: SkillItems) -> dict[str, tuple[float | None, ...]]:
    fits = items.fits
    numbers = np.stack([fits.irt_a, fits.irt_b, fits.log_likelihood, items.offsets.d], axis=1)
    return {
        item: tuple(None if np.isnan(value) else float(value) for value in row)
        for item, row in zip(items.item_ids, numbers, strict=True)
    }


def assert_red(finding: Finding, named: str | None) -> None:
    assert not finding.passed
    check = {check.name: check for check in ITEM_CHECKS}[finding.name]
    assert finding.error == check.error
    assert finding.numbers["what_to_do"] == check.what_to_do
    assert finding.numbers.get("items") == named


def test_sound_items_pass_every_check(sound: SkillItems) -> None:
    findings = (
        items_have_enough_answers(sound, 50),
        log_likelihood_beats_constant(COMPARED, "2pl"),
        item_parameters_inside_bounds(sound),
        stored_row_matches(sound, rows(sound), None, "2pl"),
    )
    assert [finding.name for finding in findings] == [check.name for check in ITEM_CHECKS]
    assert all(finding.passed for finding in findings)


def test_the_published_item_model_is_held_against_the_success_rate_on_held_out_students() -> None:
    finding = log_likelihood_beats_constant(COMPARED, "offset")
    assert finding.passed
    assert {name: finding.numbers[name] for name in ("actual", "threshold", "bkt_alone", "success_rate")} == {
        "actual": -0.58,
        "threshold": -0.62,
        "bkt_alone": -0.6,
        "success_rate": -0.62,
    }
    assert (finding.numbers["two_pl"], finding.numbers["offset"]) == (-0.59, -0.58)
    worse = replace(COMPARED, two_pl=-0.63)
    assert log_likelihood_beats_constant(worse, "offset").passed
    assert_red(log_likelihood_beats_constant(worse, "2pl"), None)


def test_without_students_to_hold_out_nothing_is_compared() -> None:
    finding = log_likelihood_beats_constant(None, "2pl")
    assert finding.passed
    assert "too few students" in str(finding.numbers["actual"])


def test_the_sentence_names_the_best_item_model_first_and_all_four_numbers() -> None:
    assert item_sentence(COMPARED) == (
        "of the item models, offset predicts held-out answers best: -0.5800 nats per answer, against 2PL -0.5900, BKT alone "
        "-0.6000, success rate -0.6200; mean over 500 answers"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"irt_a": A_BOUNDS[1] + 0.01},
        {"irt_b": B_BOUNDS[0] - 0.01},
        {"log_likelihood": 0.1},
        {"log_likelihood": np.nan},
    ],
)
def test_items_outside_the_bounds_are_named_and_not_stored(
    sound: SkillItems, wrong: dict[str, float]
) -> None:
    items = changed(sound, 2, **wrong)
    assert_red(item_parameters_inside_bounds(items), "c")
    assert items.only(inside_bounds(items)).item_ids == ("a", "b", "all right", "few")


def test_too_few_answers_are_a_warning(sound: SkillItems) -> None:
    few = sound.only(np.array([False, False, False, False, True]))
    finding = items_have_enough_answers(few, 50)
    assert (finding.passed, finding.error, finding.numbers["actual"]) == (False, False, 10)


def test_items_that_everybody_got_right_are_not_enough(sound: SkillItems) -> None:
    only_right = sound.only(np.array([False, False, False, True, False]))
    assert not items_have_enough_answers(only_right, 2).passed


def test_a_stored_row_that_differs_is_named(sound: SkillItems) -> None:
    stored = rows(sound)
    a, few = stored["a"], stored["few"]
    assert stored_row_matches(sound, stored, None, "2pl").passed
    assert_red(stored_row_matches(sound, stored | {"a": (1.0, *a[1:])}, None, "2pl"), "a")
    assert_red(stored_row_matches(sound, stored | {"few": (*few[:3], 0.1)}, None, "2pl"), "few")
    assert_red(stored_row_matches(sound, stored | {"few": (1.0, *few[1:])}, None, "2pl"), "few")
    missing = {item: row for item, row in stored.items() if item != "b"}
    assert_red(stored_row_matches(sound, missing, None, "2pl"), "b")
    assert stored_row_matches(sound, stored | {"a": None}, None, "2pl").passed, "the row of another run"


def test_a_platforms_row_that_differs_is_named_by_the_model_that_it_gets(sound: SkillItems) -> None:
    stored = rows(sound)
    by_2pl = {item: stored[item][:2] for item in ("a", "b", "c")}
    by_offset = {item: (1.0, -float(stored[item][3] or 0)) for item in ("a", "b", "c", "few")}
    others = {"all right": (3.0, 3.0)}
    assert stored_row_matches(sound, stored, by_2pl | others, "2pl").passed
    assert stored_row_matches(sound, stored, by_offset | others, "offset").passed
    assert_red(stored_row_matches(sound, stored, by_2pl | {"c": (None, None)}, "2pl"), "c")
    assert_red(stored_row_matches(sound, stored, by_offset | {"few": (1.0, 0.0)}, "offset"), "few")
    assert_red(stored_row_matches(sound, stored, by_2pl, "offset"), "a, b, c, few")


def test_a_skill_that_cannot_be_fitted_fails_alone_and_the_others_are_as_if_each_was_judged_alone() -> None:
    now, options = dt.datetime.now(dt.UTC), ItemOptions(theta_from="mastery")
    rng = np.random.default_rng(3)
    answers = {}
    for key in ("a", "no mastery", "b", "no parameters", "unusable", "c"):
        n_students, n_items = int(rng.integers(200, 400)), int(rng.integers(1, 6))
        answers[key] = SkillAnswers(
            key,
            tuple(f"{key} {number}" for number in range(n_items)),
            rng.integers(0, n_items, n_students),
            rng.integers(0, 2, n_students).astype(np.uint8),
            np.arange(n_students + 1),
            None if key == "no mastery" else rng.random(n_students),
            rng.random(n_students) < 0.2,
        )
    params = {key: (BktParams(0.3, 0.1, 0.1, 0.2), now) for key in answers if key != "no parameters"}
    found = {v.skill_id: v for v in judge_items(answers, params, {"unusable": "odd"}, options)}
    assert list(found) == list(answers)
    assert [found[key].outcome for key in ("no mastery", "no parameters", "unusable")] == [
        Outcome.FAILED,
        Outcome.SKIPPED,
        Outcome.FAILED,
    ]
    assert "without mastery" in (found["no mastery"].reason or "")
    for key in "abc":
        (alone,) = judge_items({key: answers[key]}, params, {}, options)
        assert str(alone) == str(found[key])
        assert alone.comparison is not None
        together, by_itself = (rows(v.items) for v in (found[key], alone) if v.items)
        assert together == by_itself
