"""The checks of a skill's items."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bkt_pipeline.calibration.check import Decision, Finding, check, equal_as_stored
from bkt_pipeline.model.irt.fits import ItemFlag
from bkt_pipeline.model.irt.items import SkillItems
from bkt_pipeline.model.irt.two_pl import A_BOUNDS, B_BOUNDS

Row = tuple[float | None, ...]

NAMED = 5  # items that a finding names
NEAR_ZERO = 1e-6  # absolute; difficulties are often near 0, where a relative difference means little


def fitted(items: SkillItems) -> npt.NDArray[np.bool_]:
    """Which items have parameters, bool of shape (n_items,)."""
    return ~np.isnan(items.fits.irt_a)


def inside_bounds(items: SkillItems) -> npt.NDArray[np.bool_]:
    """Which items may be stored, bool of shape (n_items,): those without parameters, and those inside the bounds."""
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
    """All findings on the fits' own numbers; `right` is the number of right answers to each item."""
    enough = items_have_enough_answers(items, min_answers)
    if not enough.passed:
        return (enough,)
    return enough, log_likelihood_beats_constant(items, right), item_parameters_inside_bounds(items)


@check(
    "At least one item of the skill has enough graded answers, both right and wrong, to be calibrated; otherwise older "
    "rows stay.",
    what_to_do="nothing, unless there should be more: look at the skill's attempts in the items' window",
)
def items_have_enough_answers(items: SkillItems, min_answers: int) -> Decision:
    one_sided = (items.fits.flags & (ItemFlag.ALL_RIGHT | ItemFlag.ALL_WRONG)) != 0
    most = int(items.fits.n_attempts[~one_sided].max(initial=0))
    return most >= min_answers, {"actual": most, "threshold": min_answers}


@check(
    "No calibrated item explains its answers worse than one constant success rate would (items with only right or only "
    "wrong answers are not compared).",
    what_to_do="check whether the items practise this skill, and whether their answer keys are right",
    threshold=0.0,
)
def log_likelihood_beats_constant(
    items: SkillItems, right: npt.NDArray[np.int64], threshold: float
) -> Decision:
    fits = items.fits
    compared = fitted(items)
    n, ok = fits.n_attempts[compared].astype(np.float64), right[compared].astype(np.float64)
    constant = ok * np.log(ok / n) + (n - ok) * np.log1p(-ok / n)
    ahead = (fits.log_likelihood[compared] - constant) / n
    worse = np.flatnonzero(compared)[ahead < threshold]
    return worse.size == 0, {
        "actual": float(ahead.min()) if ahead.size else "none: no item with right and wrong answers",
        "items_compared": int(compared.sum()),
        "items_worse": int(worse.size),
        **_named(items, worse),
    }


@check(
    f"Every discrimination is in [{A_BOUNDS[0]:g}, {A_BOUNDS[1]:g}], every difficulty in "
    f"[{B_BOUNDS[0]:g}, {B_BOUNDS[1]:g}], and every log-likelihood is a number.",
    what_to_do="the named items were not stored; report a bug with their numbers of answers",
    error=True,
    threshold=0,
)
def item_parameters_inside_bounds(items: SkillItems, threshold: float) -> Decision:
    outside = np.flatnonzero(~inside_bounds(items))
    at_bound = (items.fits.flags & (ItemFlag.AT_BOUND_A | ItemFlag.AT_BOUND_B)) != 0
    return outside.size <= threshold, {
        "actual": int(outside.size),
        "items_at_a_bound": int(at_bound.sum()),
        **_named(items, outside),
    }


@check(
    "The stored rows of bkt_pipeline.item_irt_params, and of the platform's items if they are updated, equal what was "
    "calibrated.",
    what_to_do="find what else changes these values (a trigger, another program, a column with few digits), then "
    "materialise the skill's items again",
    error=True,
    threshold=0,
)
def stored_row_matches(
    items: SkillItems,
    stored: Mapping[str, Row | None],
    platform: Mapping[str, Row] | None,
    threshold: float,
) -> Decision:
    """`stored` is (irt_a, irt_b, log_likelihood) of each item as stored now, None if another run has written it
    since; `platform` is (irt_a, irt_b) from the platform's columns, None if we do not update them."""
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
    return len(wrong) <= threshold, {"actual": len(wrong), **_named(items, np.array(wrong, int))}


def _equal(ours: Sequence[float], theirs: Sequence[float | None]) -> bool:
    return len(ours) == len(theirs) and all(
        equal_as_stored(own, other, near_zero=NEAR_ZERO) for own, other in zip(ours, theirs, strict=True)
    )


def _named(items: SkillItems, places: npt.NDArray[np.int64]) -> dict[str, str]:
    if not places.size:
        return {}
    more = ", …" if places.size > NAMED else ""
    return {"items": ", ".join(items.item_ids[place] for place in places[:NAMED]) + more}


ITEM_CHECKS = (
    items_have_enough_answers,
    log_likelihood_beats_constant,
    item_parameters_inside_bounds,
    stored_row_matches,
)
