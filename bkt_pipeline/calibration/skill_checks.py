"""What must hold of a calibration and of a window: pure functions of the numbers, which know no Dagster and no SQL.

A finding is named for what is true when it is green. Every threshold is a constant here or,
where its sentence names it, in rules.py.
"""

import datetime as dt
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from bkt_pipeline.calibration.baseline import History
from bkt_pipeline.calibration.rules import (
    CALIBRATION_RULES,
    DEVIATIONS,
    FRESH_HOURS,
    NIGHTS_NEEDED,
    UNGRADED_SHARE,
    WINDOW_RULES,
)
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
from bkt_pipeline.model.bkt.prediction import auc, hold_out, most_likely, predictions, rmse

SAME = 1e-9  # two log-likelihoods are equal within this share
TIE = 1e-12  # and a neighbour is better beyond this one, as in the search
STORED = 1e-6  # a platform's column may hold fewer digits than a double
# What a sound fit may be worse than last night's parameters: nats an attempt, and on top of them nats in all, spread
# over the attempts that were fitted on. Of sound fits this warns of 2 in 100 or fewer: benchmarks/hold_out.md.
HOLD_OUT_MARGIN = 0.005
HOLD_OUT_MARGIN_NATS = 16.0
LEAST_DEVIATION = 0.002  # nats per attempt; nights on nearly the same attempts differ by less

Number = float | int | str


@dataclass(frozen=True)
class Finding:
    """A rule's verdict on one skill, with the numbers that it rests on."""

    name: str
    passed: bool
    error: bool = False
    numbers: Mapping[str, Number] = field(default_factory=dict)


def verify(
    window: AttemptWindow, fit: SkillFit, history: History, grid: Grid = DEFAULT_GRID
) -> tuple[Finding, ...]:
    """All findings on a calibration's own numbers, before it is published.

    The safe default of a grid without a valid point is no calibration: it is said to be none, as a warning.
    """
    if fit.params.log_likelihood is None:
        return (
            Finding(
                "log_likelihood_is_finite", False, False, {"actual": "none: the grid has no valid point"}
            ),
        )
    return (
        is_finite(window, fit),
        is_grid_maximum(window, fit, grid),
        beats_chance(window, fit),
        holds_out(window, history, grid),
        is_in_family(fit, history),
        is_identified(fit),
    )


def refusal(findings: Sequence[Finding]) -> str | None:
    """Why a calibration must not be published; None where it may."""
    wrong = [
        f"{finding.name} ({_said(finding.numbers)})"
        for finding in findings
        if finding.error and not finding.passed
    ]
    return f"not published, it fails {'; '.join(wrong)}" if wrong else None


def is_finite(window: AttemptWindow, fit: SkillFit) -> Finding:
    """`log_likelihood_is_finite`."""
    said = fit.published.log_likelihood
    again = log_likelihood(window, fit.published)
    assert said is not None
    fine = math.isfinite(said) and said < 0.0 and math.isclose(said, again, rel_tol=SAME)
    return _found(
        "log_likelihood_is_finite",
        fine,
        actual=_plain(said),
        recomputed=_plain(again),
        relative_difference=_plain(abs(said - again) / abs(again) if again else math.inf),
        threshold=SAME,
    )


def is_grid_maximum(window: AttemptWindow, fit: SkillFit, grid: Grid = DEFAULT_GRID) -> Finding:
    """`log_likelihood_is_grid_maximum`."""
    own = log_likelihood(window, fit.params)
    around = [(log_likelihood(window, point), point) for point in neighbours(fit.params, grid)]
    best, where = max(around, key=lambda pair: pair[0], default=(-math.inf, fit.params))
    better = best - own
    return _found(
        "log_likelihood_is_grid_maximum",
        not better > TIE * abs(own),
        actual=_plain(better),
        threshold=TIE * abs(own),
        neighbours=len(around),
        best_neighbour=", ".join(f"{value:g}" for value in where.values),
    )


def neighbours(params: BktParams, grid: Grid = DEFAULT_GRID) -> Iterator[BktParams]:
    """The valid points next to `params` along each axis of the grid."""
    axes = (grid.p_l0.values, grid.p_transit.values, grid.p_slip.values, grid.p_guess.values)
    for place, (value, axis) in enumerate(zip(params.values, axes, strict=True)):
        below = max((other for other in axis if other < value), default=None)
        above = min((other for other in axis if other > value), default=None)
        for other in (below, above):
            if other is None:
                continue
            point = (*params.values[:place], other, *params.values[place + 1 :])
            if point[2] <= grid.max_slip and point[3] <= grid.max_guess and round(point[2] + point[3], 9) < 1:
                yield BktParams(*point)


def beats_chance(window: AttemptWindow, fit: SkillFit) -> Finding:
    """`log_likelihood_beats_chance`."""
    n = window.n_attempts
    own = log_likelihood(window, fit.published) / n
    rate = float(window.responses.mean())
    constant = _of_rate(rate, rate)
    default = log_likelihood(window, SAFE_DEFAULT) / n
    return _found(
        "log_likelihood_beats_chance",
        own > constant and own >= default,
        actual=own,
        threshold=max(constant, default),
        constant_success_rate=constant,
        default_parameters=default,
        success_rate=rate,
    )


def holds_out(window: AttemptWindow, history: History, grid: Grid = DEFAULT_GRID) -> Finding:
    """`log_likelihood_holds_out`."""
    fitted, held = hold_out(window)
    if not fitted.n_students or not held.n_students:
        return _found(
            "log_likelihood_holds_out",
            True,
            actual="none: too few students to hold some out",
            students_held_out=held.n_students,
            students_fitted=fitted.n_students,
        )
    params = most_likely(fitted, grid)
    own = log_likelihood(held, params) / held.n_attempts
    constant = _of_rate(
        float(held.responses.mean()), _inside(float(fitted.responses.mean()), fitted.n_attempts)
    )
    thresholds = {"constant_success_rate": constant}
    if history.params is not None:
        margin = HOLD_OUT_MARGIN + HOLD_OUT_MARGIN_NATS / fitted.n_attempts
        thresholds["last_night_less_margin"] = log_likelihood(held, history.params) / held.n_attempts - margin
        thresholds["margin"] = margin
    predicted = predictions(held, params)
    area = auc(held.responses, predicted)
    required = max(value for name, value in thresholds.items() if name != "margin")
    return _found(
        "log_likelihood_holds_out",
        own > constant and own >= required,
        actual=own,
        threshold=required,
        **thresholds,
        auc="none: all answers are equal" if area is None else area,
        rmse=rmse(held.responses, predicted),
        students_held_out=held.n_students,
        attempts_held_out=held.n_attempts,
    )


def is_in_family(fit: SkillFit, history: History) -> Finding:
    """`log_likelihood_is_in_family`."""
    nights = [value for value in history.per_attempt if math.isfinite(value)]
    said = fit.published.log_likelihood
    if said is None or len(nights) < NIGHTS_NEEDED:
        return _found("log_likelihood_is_in_family", True, nights=len(nights), nights_needed=NIGHTS_NEEDED)
    middle = median(nights)
    deviation = max(1.4826 * median(abs(value - middle) for value in nights), LEAST_DEVIATION)
    own = said / fit.n_attempts
    return _found(
        "log_likelihood_is_in_family",
        own >= middle - DEVIATIONS * deviation,
        actual=own,
        threshold=middle - DEVIATIONS * deviation,
        median=middle,
        robust_deviation=deviation,
        nights=len(nights),
    )


def is_identified(fit: SkillFit) -> Finding:
    """`parameters_are_identified`."""
    evidence = fit.evidence
    return _found(
        "parameters_are_identified",
        not evidence.flags and evidence.tier is not Tier.INSUFFICIENT,
        actual="; ".join(FLAGS[flag] for flag in evidence.flags) or "no flag",
        threshold="no flag, and at least 30 students",
        tier=str(evidence.tier),
        students=fit.n_students,
        share_of_students_with_three_attempts=evidence.share_with_three,
    )


def row_matches(fit: SkillFit, row: Sequence[float | None] | None) -> Finding:
    """`stored_row_matches`: `row` is what the backend would read now, None where it finds no row."""
    if row is None:
        return _found("stored_row_matches", False, actual="no row", threshold="the calibrated values")
    calibrated = (*fit.published.values, fit.published.log_likelihood)
    names = ("p_l0", "p_transit", "p_slip", "p_guess", "log_likelihood")
    wrong = [
        name for name, ours, theirs in zip(names, calibrated, row, strict=True) if not _equal(ours, theirs)
    ]
    return _found(
        "stored_row_matches",
        not wrong,
        actual=", ".join(f"{value!r}" for value in row),
        threshold=", ".join(f"{value!r}" for value in calibrated),
        **({"differs_in": ", ".join(wrong)} if wrong else {}),
    )


def has_enough(attempts: int, min_attempts: int) -> Finding:
    """`skill_has_enough_attempts`."""
    return _found(
        "skill_has_enough_attempts", attempts >= min_attempts, actual=attempts, threshold=min_attempts
    )


def verify_window(window: AttemptWindow, in_future: int) -> tuple[Finding, ...]:
    """All findings on a window; `in_future` attempts of the skill bear a time that is still to come."""
    seen = window.n_attempts + window.ungraded
    share = window.ungraded / seen if seen else 0.0
    fresh = _found(
        "window_is_fresh", False, actual="none: no graded attempt in the window", threshold=FRESH_HOURS
    )
    newest = newest_attempt(window)
    if newest is not None:
        hours = (window.as_of - newest).total_seconds() / 3600.0
        fresh = _found("window_is_fresh", hours <= FRESH_HOURS, actual=hours, threshold=FRESH_HOURS)
    return (
        _found(
            "window_is_graded",
            share <= UNGRADED_SHARE,
            actual=share,
            threshold=UNGRADED_SHARE,
            ungraded=window.ungraded,
        ),
        fresh,
        _found("no_future_attempts", in_future == 0, actual=in_future, threshold=0),
    )


def newest_attempt(window: AttemptWindow) -> dt.datetime | None:
    """When the latest graded answer of the window was given; None where there is none."""
    if not window.n_attempts:
        return None
    return dt.datetime.fromtimestamp(int(np.max(window.answered_at)) / 1e6, dt.UTC)


def _found(rule: str, passed: bool, **numbers: Number) -> Finding:
    of = (CALIBRATION_RULES | WINDOW_RULES)[rule]
    shown = {name: float(f"{n:.7g}") if isinstance(n, float) else n for name, n in numbers.items()}
    return Finding(rule, bool(passed), of.error, shown if passed else {**shown, "what_to_do": of.todo})


def _equal(ours: float | None, theirs: float | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return math.isclose(ours, theirs, rel_tol=STORED)


def _of_rate(share_right: float, rate: float) -> float:
    """Log-likelihood per attempt of answers, so many of them right, under one constant success rate."""
    right = share_right * math.log(rate) if share_right else 0.0
    wrong = (1.0 - share_right) * math.log(1.0 - rate) if share_right < 1.0 else 0.0
    return right + wrong


def _inside(rate: float, n: int) -> float:
    """A success rate kept half an answer away from 0 and 1: all right so far is not right for ever."""
    return min(max(rate, 0.5 / n), 1.0 - 0.5 / n)


def _plain(value: float) -> Number:
    """The number, or its name where it is none that a plot or JSON could hold."""
    return value if math.isfinite(value) else str(value)


def _said(numbers: Mapping[str, Number]) -> str:
    return ", ".join(
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in numbers.items()
        if name != "what_to_do"
    )
