"""The checks of a skill's calibration, with their thresholds."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from statistics import median

import numpy as np

from bkt_pipeline.calibration.baseline import History, constant_rate
from bkt_pipeline.calibration.check import Decision, Finding, check, equal_as_stored, plain
from bkt_pipeline.model import (
    DEFAULT_GRID,
    SAFE_DEFAULT,
    AttemptWindow,
    BktParams,
    Grid,
    SkillFit,
    log_likelihood,
)
from bkt_pipeline.model.bkt.evidence import FLAGS, Tier
from bkt_pipeline.model.bkt.likelihood import log_likelihood_of, log_likelihoods
from bkt_pipeline.model.bkt.prediction import are_held_out

Values = tuple[float, float, float, float]  # p_l0, p_transit, p_slip, p_guess

TIE = 1e-12  # a neighbour counts as better only beyond this relative difference, as in the search
# A sound fit may predict worse than last night's parameters by HOLD_OUT_MARGIN nats per attempt, plus
# HOLD_OUT_MARGIN_NATS divided by the number of fitted attempts. With these margins at most 2 in 100 sound fits cause a
# warning (benchmarks/hold_out.md).
HOLD_OUT_MARGIN = 0.005
HOLD_OUT_MARGIN_NATS = 16.0
HISTORY_NIGHTS = 14
NIGHTS_NEEDED = 5
DEVIATIONS = 5.0  # robust standard deviations below the median
LEAST_DEVIATION = 0.002  # nats per attempt; nights with nearly the same attempts differ by less
NAMES = ("p_l0", "p_transit", "p_slip", "p_guess", "log_likelihood")


def verify(
    window: AttemptWindow, fit: SkillFit, history: History, grid: Grid = DEFAULT_GRID
) -> tuple[Finding, ...]:
    """All findings on a calibration's numbers, before it is published.

    If the grid has no valid point, the fit is the safe default: it counts as no calibration and is reported as a warning.
    """
    if not window.n_attempts:
        # The fit is the prior's mode; without answers there is nothing to check it against.
        return ()
    if fit.published.log_likelihood is None:
        numbers = {"actual": "none: the grid has no valid point"}
        return (Finding(log_likelihood_is_finite.name, False, False, numbers),)
    return (
        log_likelihood_is_finite(window, fit),
        log_likelihood_is_grid_maximum(window, fit, grid),
        log_likelihood_beats_chance(window, fit),
        log_likelihood_holds_out(window, fit, history),
        log_likelihood_is_in_family(fit, history),
        parameters_are_identified(fit),
    )


@check(
    "The window has enough graded attempts to calibrate the skill; otherwise the older row stays.",
    what_to_do="nothing, unless the skill should have more: check attempt_window and the ungraded attempts",
)
def skill_has_enough_attempts(attempts: int, min_attempts: int) -> Decision:
    return attempts >= min_attempts, {"actual": attempts, "threshold": min_attempts}


@check(
    "The log-likelihood is finite, negative and equal to the one recomputed from the stored window.",
    what_to_do="the row was not replaced; materialise attempt_window and skill_bkt_params again for this skill, and "
    "report a bug if it fails again",
    error=True,
    threshold=1e-9,
)
def log_likelihood_is_finite(window: AttemptWindow, fit: SkillFit, threshold: float) -> Decision:
    value = fit.published.log_likelihood
    again = log_likelihood(window, fit.published)
    assert value is not None
    fine = math.isfinite(value) and value < 0.0 and math.isclose(value, again, rel_tol=threshold)
    return fine, {
        "actual": plain(value),
        "recomputed": plain(again),
        "relative_difference": plain(abs(value - again) / abs(again) if again else math.inf),
    }


@check(
    "No neighbour of the best grid point (one step along an axis) has a higher log-likelihood.",
    what_to_do="the row was not replaced; the search missed the maximum: report a bug with the skill's parameters",
    error=True,
)
def log_likelihood_is_grid_maximum(window: AttemptWindow, fit: SkillFit, grid: Grid) -> Decision:
    points = [fit.params.values, *neighbours(fit.params, grid)]
    own, *around = log_likelihoods(window, points)
    best, where = max(zip(around, points[1:], strict=True), key=itemgetter(0), default=(-math.inf, points[0]))
    better, tie = best - own, TIE * abs(own)
    return not better > tie, {
        "actual": plain(better),
        "threshold": tie,
        "neighbours": len(around),
        "best_neighbour": ", ".join(f"{value:g}" for value in where),
    }


def neighbours(params: BktParams, grid: Grid = DEFAULT_GRID) -> Iterator[Values]:
    """The values of the valid points next to `params` along each axis of the grid."""
    axes = (grid.p_l0.values, grid.p_transit.values, grid.p_slip.values, grid.p_guess.values)
    for place, (value, axis) in enumerate(zip(params.values, axes, strict=True)):
        below, above = bisect_left(axis, value), bisect_right(axis, value)
        for other in (*axis[max(below - 1, 0) : below], *axis[above : above + 1]):
            point = list(params.values)
            point[place] = other
            p_l0, transit, slip, guess = point
            if slip <= grid.max_slip and guess <= grid.max_guess and round(slip + guess, 9) < 1:
                yield p_l0, transit, slip, guess


@check(
    "The log-likelihood per attempt is higher than that of one constant success rate, and not lower than that of the "
    "default parameters.",
    what_to_do="check whether the skill's items belong together; four parameters explain its answers no better than one "
    "rate",
)
def log_likelihood_beats_chance(window: AttemptWindow, fit: SkillFit) -> Decision:
    n = window.n_attempts
    own = log_likelihood(window, fit.published) / n
    rate = float(window.responses.mean())
    constant = constant_rate(rate, rate)
    default = log_likelihood(window, SAFE_DEFAULT) / n
    return own > constant and own >= default, {
        "actual": own,
        "threshold": max(constant, default),
        "constant_success_rate": constant,
        "default_parameters": default,
        "success_rate": rate,
    }


@check(
    "The published estimator, fitted on 80% of the students, predicts the other students better than the success rate of "
    "the 80% does, and no worse than last night's parameters.",
    what_to_do="few students: wait for more; many: look what changed in items or grading since last night",
)
def log_likelihood_holds_out(window: AttemptWindow, fit: SkillFit, history: History) -> Decision:
    found = fit.held_out
    if found is None:
        return True, {"actual": "none: too few students to hold some out", "students": window.n_students}
    own, constant = found.scores[fit.estimator], found.scores["constant"].log_likelihood
    numbers: dict[str, float | int | str] = {
        "actual": own.log_likelihood,
        "estimator": fit.estimator,
        "constant_success_rate": constant,
    }
    required = constant
    if history.params is not None:
        held = np.flatnonzero(are_held_out(window.student_ids)).astype(np.int32)
        margin = HOLD_OUT_MARGIN + HOLD_OUT_MARGIN_NATS / found.fitted_attempts
        last_night = log_likelihood_of(window, history.params, held) / found.attempts - margin
        required = max(required, last_night)
        numbers |= {"last_night_less_margin": last_night, "margin": margin}
    return own.log_likelihood > constant and own.log_likelihood >= required, {
        **numbers,
        "threshold": required,
        "auc": "none: all answers are equal" if own.auc is None else own.auc,
        "rmse": own.rmse,
        "students_held_out": found.students,
        "attempts_held_out": found.attempts,
    }


@check(
    f"Per attempt, the log-likelihood is at most {DEVIATIONS:g} robust deviations below the median of the last "
    f"{HISTORY_NIGHTS} nights; passes until {NIGHTS_NEEDED} nights exist.",
    what_to_do="find what changed: new items, a different grading, a different group of students",
)
def log_likelihood_is_in_family(fit: SkillFit, history: History) -> Decision:
    nights = [value for value in history.per_attempt[:HISTORY_NIGHTS] if math.isfinite(value)]
    value = fit.published.log_likelihood
    if value is None or len(nights) < NIGHTS_NEEDED:
        return True, {"nights": len(nights), "nights_needed": NIGHTS_NEEDED}
    middle = median(nights)
    deviation = max(1.4826 * median(abs(night - middle) for night in nights), LEAST_DEVIATION)
    own, least = value / fit.n_attempts, middle - DEVIATIONS * deviation
    return own >= least, {
        "actual": own,
        "threshold": least,
        "median": middle,
        "robust_deviation": deviation,
        "nights": len(nights),
    }


@check(
    "The answers determine all four parameters: there is no flag, and there are enough students.",
    what_to_do="read the flags, rely only on parameters with narrow intervals, and wait for more students",
)
def parameters_are_identified(fit: SkillFit) -> Decision:
    evidence = fit.evidence
    return not evidence.flags and evidence.tier is not Tier.INSUFFICIENT, {
        "actual": "; ".join(FLAGS[flag] for flag in evidence.flags) or "no flag",
        "threshold": f"no flag, and a tier above {Tier.INSUFFICIENT}",
        "tier": str(evidence.tier),
        "students": fit.n_students,
        "share_of_students_with_three_attempts": evidence.share_with_three,
    }


@check(
    "The row that the backend reads equals what was calibrated.",
    what_to_do="find what else changes skill_bkt_params (a trigger, another program, a column with few digits), then "
    "materialise the skill again",
    error=True,
)
def stored_row_matches(fit: SkillFit, row: Sequence[float | None] | None) -> Decision:
    """`row` is what the backend would read now, None if there is no row."""
    if row is None:
        return False, {"actual": "no row", "threshold": "the calibrated values"}
    calibrated = (*fit.published.values, fit.published.log_likelihood)
    wrong = [
        name
        for name, ours, theirs in zip(NAMES, calibrated, row, strict=True)
        if not equal_as_stored(ours, theirs)
    ]
    return not wrong, {
        "actual": ", ".join(f"{value!r}" for value in row),
        "threshold": ", ".join(f"{value!r}" for value in calibrated),
        **({"differs_in": ", ".join(wrong)} if wrong else {}),
    }


SKILL_CHECKS = (
    skill_has_enough_attempts,
    log_likelihood_is_finite,
    log_likelihood_is_grid_maximum,
    log_likelihood_beats_chance,
    log_likelihood_holds_out,
    log_likelihood_is_in_family,
    parameters_are_identified,
    stored_row_matches,
)
