"""The checks of a skill's items."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bkt_pipeline.calibration.check import Decision, check, equal_as_stored
from bkt_pipeline.model.irt.comparison import ItemComparison
from bkt_pipeline.model.irt.fits import ItemFlag
from bkt_pipeline.model.irt.items import ItemModel, SkillItems, published
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
    "Fitted on 80% of the students, the item model that the platform gets predicts the others' answers no worse than each "
    "item's constant success rate.",
    what_to_do="compare the four numbers; if the success rate is ahead in many skills, check whether their items practise "
    "the skill, and whether their answer keys are right",
)
def log_likelihood_beats_constant(compared: ItemComparison | None, item_model: ItemModel) -> Decision:
    if compared is None:
        return True, {"actual": "none: too few students to hold some out"}
    own = compared.offset if item_model == "offset" else compared.two_pl
    return own >= compared.success_rate, {
        "actual": own,
        "threshold": compared.success_rate,
        "item_model": item_model,
        "answers_held_out": compared.n_answers,
        "bkt_alone": compared.bkt,
        "success_rate": compared.success_rate,
        "two_pl": compared.two_pl,
        "offset": compared.offset,
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
    item_model: ItemModel,
    threshold: float,
) -> Decision:
    """`stored` is (irt_a, irt_b, log_likelihood, offset_d) of each item as stored now, None if it is the row of another
    run; `platform` is (irt_a, irt_b) from the platform's columns, None if we do not update them from `item_model`."""
    fits, wrong = items.fits, []
    ours = np.stack([fits.irt_a, fits.irt_b, fits.log_likelihood, items.offsets.d], axis=1)
    shown = np.stack(published(items, item_model), axis=1)
    for place, item in enumerate(items.item_ids):
        theirs = stored.get(item, ())
        if theirs is None:
            continue
        kept_by_platform = platform is None or np.isnan(shown[place, 0])
        if not _equal(ours[place], theirs) or not (
            kept_by_platform or _equal(shown[place], (platform or {}).get(item, ()))
        ):
            wrong.append(place)
    return len(wrong) <= threshold, {"actual": len(wrong), **_named(items, np.array(wrong, int))}


def _equal(ours: npt.NDArray[np.float64], theirs: Row) -> bool:
    """Whether the stored numbers are ours; one that is none of ours is NULL there."""
    return len(ours) == len(theirs) and all(
        equal_as_stored(None if math.isnan(own) else own, other, near_zero=NEAR_ZERO)
        for own, other in zip(ours.tolist(), theirs, strict=True)
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
