"""What must hold of a skill's items: pure functions of the numbers, in the manner of verification.py."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bkt_pipeline.calibration.rules import Rule
from bkt_pipeline.calibration.skill_checks import STORED, Finding, Number
from bkt_pipeline.model.irt.fits import ItemFlag
from bkt_pipeline.model.irt.items import SkillItems
from bkt_pipeline.model.irt.two_pl import A_BOUNDS, B_BOUNDS

Row = tuple[float | None, ...]

NAMED = 5  # items that a finding names

ITEM_RULES = {
    "items_have_enough_answers": Rule(
        "At least one item of the skill has enough graded answers to be calibrated; else older rows stand.",
        False,
        "nothing, unless it should have more: look at the skill's attempts of the last 90 days",
    ),
    "log_likelihood_beats_constant": Rule(
        "No calibrated item explains its answers worse than one constant success rate would (items that were "
        "answered all right or all wrong have nothing to explain).",
        False,
        "look at the items: whether they practise this skill, and whether their answer key is right",
    ),
    "item_parameters_inside_bounds": Rule(
        f"Every discrimination lies in [{A_BOUNDS[0]:g}, {A_BOUNDS[1]:g}], every difficulty in "
        f"[{B_BOUNDS[0]:g}, {B_BOUNDS[1]:g}], and every log-likelihood is a number.",
        True,
        "the items that are named were not stored; report a bug with the numbers of their answers",
    ),
    "stored_row_matches": Rule(
        "What bkt_pipeline.item_irt_params holds now, and the platform's items where they are updated, is what was "
        "calibrated.",
        True,
        "look who else writes these tables (a trigger, another program, a column of few digits), then materialise "
        "the skill's items again",
    ),
}


def fitted(items: SkillItems) -> npt.NDArray[np.bool_]:
    """Which items have parameters, bool of shape (n_items,)."""
    return ~np.isnan(items.fits.irt_a)


def inside_bounds(items: SkillItems) -> npt.NDArray[np.bool_]:
    """Which items may be stored, bool of shape (n_items,): those without parameters, and those in their bounds."""
    fits = items.fits
    inside = (
        (fits.irt_a >= A_BOUNDS[0])
        & (fits.irt_a <= A_BOUNDS[1])
        & (fits.irt_b >= B_BOUNDS[0])
        & (fits.irt_b <= B_BOUNDS[1])
        & np.isfinite(fits.log_likelihood)
        & (fits.log_likelihood <= 0)
    )
    return inside | ~fitted(items)


def verify_items(items: SkillItems, right: npt.NDArray[np.int64], min_answers: int) -> tuple[Finding, ...]:
    """All findings on the fits' own numbers; `right` answers of each item were right."""
    enough = has_enough_answers(items, min_answers)
    if not enough.passed:
        return (enough,)
    return enough, beats_constant(items, right), are_inside_bounds(items)


def has_enough_answers(items: SkillItems, min_answers: int) -> Finding:
    """`items_have_enough_answers`."""
    most = int(items.fits.n_attempts.max(initial=0))
    return _found("items_have_enough_answers", most >= min_answers, actual=most, threshold=min_answers)


def beats_constant(items: SkillItems, right: npt.NDArray[np.int64]) -> Finding:
    """`log_likelihood_beats_constant`."""
    fits = items.fits
    one_sided = (fits.flags & (ItemFlag.ALL_RIGHT | ItemFlag.ALL_WRONG)) != 0
    compared = fitted(items) & ~one_sided
    n, ok = fits.n_attempts[compared].astype(np.float64), right[compared].astype(np.float64)
    constant = ok * np.log(ok / n) + (n - ok) * np.log1p(-ok / n)
    ahead = (fits.log_likelihood[compared] - constant) / n
    worse = np.flatnonzero(compared)[ahead < 0]
    return _found(
        "log_likelihood_beats_constant",
        worse.size == 0,
        actual=float(ahead.min()) if ahead.size else "none: no item with right and wrong answers",
        threshold=0.0,
        items_compared=int(compared.sum()),
        items_worse=int(worse.size),
        **_named(items, worse),
    )


def are_inside_bounds(items: SkillItems) -> Finding:
    """`item_parameters_inside_bounds`."""
    outside = np.flatnonzero(~inside_bounds(items))
    at_bound = (items.fits.flags & (ItemFlag.AT_BOUND_A | ItemFlag.AT_BOUND_B)) != 0
    return _found(
        "item_parameters_inside_bounds",
        outside.size == 0,
        actual=int(outside.size),
        threshold=0,
        items_at_a_bound=int(at_bound.sum()),
        **_named(items, outside),
    )


def rows_match(
    items: SkillItems,
    stored: Mapping[str, Row | None],
    platform: Mapping[str, Row] | None = None,
) -> Finding:
    """`stored_row_matches`: `stored` is (irt_a, irt_b, log_likelihood) as the table holds them now, None where
    another run has written since; `platform` is (irt_a, irt_b) of the platform's columns, where we update them."""
    fits, wrong = items.fits, []
    for place in np.flatnonzero(fitted(items)):
        item = items.item_ids[place]
        theirs = stored.get(item, ())
        if theirs is None:
            continue
        ours = [fits.irt_a[place], fits.irt_b[place], fits.log_likelihood[place]]
        if platform is not None:
            ours, theirs = [*ours, *ours[:2]], (*theirs, *platform.get(item, ()))
        if not _equal(ours, theirs):
            wrong.append(place)
    return _found(
        "stored_row_matches", not wrong, actual=len(wrong), threshold=0, **_named(items, np.array(wrong, int))
    )


def _equal(ours: Sequence[float], theirs: Sequence[float | None]) -> bool:
    return len(ours) == len(theirs) and all(
        other is not None and math.isclose(own, other, rel_tol=STORED, abs_tol=STORED)
        for own, other in zip(ours, theirs, strict=True)
    )


def _named(items: SkillItems, places: npt.NDArray[np.int64]) -> dict[str, str]:
    if not places.size:
        return {}
    more = ", …" if places.size > NAMED else ""
    return {"items": ", ".join(items.item_ids[place] for place in places[:NAMED]) + more}


def _found(rule: str, passed: bool, **numbers: Number) -> Finding:
    of = ITEM_RULES[rule]
    return Finding(rule, bool(passed), of.error, numbers if passed else {**numbers, "what_to_do": of.todo})
