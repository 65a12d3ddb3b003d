"""Each check passes on sound items and fails on bad ones, with the numbers that show why."""

from dataclasses import replace

import numpy as np
import pytest

from bkt_pipeline.calibration.check import Finding
from bkt_pipeline.calibration.item_checks import (
    ITEM_CHECKS,
    inside_bounds,
    item_parameters_inside_bounds,
    items_have_enough_answers,
    log_likelihood_beats_constant,
    stored_row_matches,
    verify_items,
)
from bkt_pipeline.model.irt.curve import probability
from bkt_pipeline.model.irt.items import SkillItems
from bkt_pipeline.model.irt.two_pl import A_BOUNDS, B_BOUNDS, fit_items

Right = np.ndarray


@pytest.fixture(scope="module")
def sound() -> tuple[SkillItems, Right]:
    rng = np.random.default_rng(1)
    theta = rng.normal(size=1200)
    responses = rng.random(1200) < probability(theta, 1.2, 0.3)
    responses[900:1190] = True
    fits = fit_items(theta, responses, [0, 400, 800, 900, 1190, 1200])
    right = np.add.reduceat(responses.astype(np.int64), [0, 400, 800, 900, 1190])
    return SkillItems("s", ("a", "b", "c", "all right", "few"), fits), right


def changed(items: SkillItems, place: int, **values: float) -> SkillItems:
    arrays = {name: getattr(items.fits, name).copy() for name in values}
    for name, value in values.items():
        arrays[name][place] = value
    return replace(items, fits=replace(items.fits, **arrays))


def rows(items: SkillItems) -> dict[str, tuple[float, float, float]]:
    fits = items.fits
    return {
        item: (float(fits.irt_a[place]), float(fits.irt_b[place]), float(fits.log_likelihood[place]))
        for place, item in enumerate(items.item_ids)
        if not np.isnan(fits.irt_a[place])
    }


def assert_red(finding: Finding, named: str) -> None:
    assert not finding.passed
    check = {check.name: check for check in ITEM_CHECKS}[finding.name]
    assert finding.error == check.error
    assert finding.numbers["what_to_do"] == check.what_to_do
    assert finding.numbers["items"] == named


def test_sound_items_pass_every_check(sound: tuple[SkillItems, Right]) -> None:
    items, right = sound
    findings = (*verify_items(items, right, 50), stored_row_matches(items, rows(items), None))
    assert [finding.name for finding in findings] == [check.name for check in ITEM_CHECKS]
    assert all(finding.passed for finding in findings)


def test_items_worse_than_a_constant_rate_are_named(sound: tuple[SkillItems, Right]) -> None:
    items, right = sound
    worse = changed(items, 1, log_likelihood=float(items.fits.log_likelihood[1]) - 200)
    finding = log_likelihood_beats_constant(worse, right)
    assert_red(finding, "b")
    assert (finding.numbers["items_compared"], finding.numbers["items_worse"]) == (3, 1)


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
    sound: tuple[SkillItems, Right], wrong: dict[str, float]
) -> None:
    items = changed(sound[0], 2, **wrong)
    assert_red(item_parameters_inside_bounds(items), "c")
    assert items.only(inside_bounds(items)).item_ids == ("a", "b", "all right", "few")


def test_too_few_answers_give_a_warning_and_no_other_finding(sound: tuple[SkillItems, Right]) -> None:
    items, right = sound
    few = items.only(np.array([False, False, False, False, True]))
    assert [finding.name for finding in verify_items(few, right[4:], 50)] == ["items_have_enough_answers"]
    finding = items_have_enough_answers(few, 50)
    assert (finding.passed, finding.error, finding.numbers["actual"]) == (False, False, 10)


def test_items_that_everybody_got_right_are_not_enough(sound: tuple[SkillItems, Right]) -> None:
    items, _ = sound
    only_right = items.only(np.array([False, False, False, True, False]))
    assert not items_have_enough_answers(only_right, 50).passed


def test_a_stored_row_that_differs_is_named(sound: tuple[SkillItems, Right]) -> None:
    items, stored = sound[0], rows(sound[0])
    shown = {item: row[:2] for item, row in stored.items()}
    assert stored_row_matches(items, stored, shown).passed
    assert_red(stored_row_matches(items, stored | {"a": (1.0, *stored["a"][1:])}, None), "a")
    assert_red(
        stored_row_matches(items, {item: row for item, row in stored.items() if item != "b"}, None), "b"
    )
    assert_red(stored_row_matches(items, stored, shown | {"c": (None, None)}), "c")
    assert stored_row_matches(items, stored | {"a": None}, None).passed, "another run has written it since"
