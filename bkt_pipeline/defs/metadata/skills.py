"""Metadata of a skill's window and of its calibration."""

import datetime as dt
from itertools import pairwise
from typing import Any

import dagster as dg

from bkt_pipeline.calibration.labels import one_line
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.skills import SkillVerdict
from bkt_pipeline.calibration.window_checks import WindowCounts, newest_attempt
from bkt_pipeline.db.schema import PARAMETERS
from bkt_pipeline.model import DEFAULT_GRID, on_edge
from bkt_pipeline.model.attempts import AttemptWindow


def window_metadata(window: AttemptWindow, counts: WindowCounts) -> dict[str, Any]:
    """Metadata of one skill's window, and of what was counted beside it."""
    answers = window.responses.tobytes()
    shown: dict[str, Any] = {
        "as_of": dg.MetadataValue.timestamp(window.as_of),
        "window_days": window.window_days,
        "attempts": window.n_attempts,
        "students": window.n_students,
        "ungraded": window.ungraded,
        "without_student": counts.without_student,
        "repeated_attempts": counts.repeats,
        "answers_of_unknown_order": counts.tied,
        "sequences": window.sequences,
        "distinct_sequences": len({answers[begin:end] for begin, end in pairwise(window.offsets.tolist())}),
        "dagster/row_count": window.n_students,
    }
    newest = newest_attempt(window)
    if newest is None:
        return shown
    return shown | {
        "newest_attempt": dg.MetadataValue.timestamp(newest),
        "success_rate": round(float(window.responses.mean()), 4),
    }


def verdict_metadata(
    verdict: SkillVerdict, stored_since: dt.datetime | None = None, name: str | None = None
) -> dict[str, Any]:
    """Metadata of one skill's materialisation; `stored_since` is when the stored row was calibrated."""
    shown: dict[str, Any] = {"name": one_line(name)} if name else {}
    shown["outcome"] = str(verdict.outcome)
    if verdict.reason:
        shown["reason"] = verdict.reason
    if verdict.window is not None:
        shown |= {
            "as_of": dg.MetadataValue.timestamp(verdict.window.as_of),
            "attempts": verdict.window.n_attempts,
            "students": verdict.window.n_students,
            "ungraded": verdict.window.ungraded,
        }
    if verdict.fit is None or verdict.outcome is not Outcome.CALIBRATED:
        since = dg.MetadataValue.timestamp(stored_since) if stored_since else "no row is stored yet"
        return shown | {"stored_row_calibrated_at": since}
    fit = verdict.fit
    for name in PARAMETERS:
        shown[name] = getattr(fit.published, name)
        if fit.uncertainty is not None:
            estimate = getattr(fit.uncertainty, name)
            shown |= {f"{name}_low": round(estimate.low, 4), f"{name}_high": round(estimate.high, 4)}
        if verdict.previous is not None:
            # Grid values are decimals, so anything beyond 12 digits is floating-point noise.
            shown[f"{name}_change"] = round(shown[name] - getattr(verdict.previous, name), 12)
    likelihood = fit.published.log_likelihood
    if likelihood is not None:
        shown["log_likelihood"] = likelihood
        if fit.n_attempts:
            shown["log_likelihood_per_attempt"] = likelihood / fit.n_attempts
    if fit.polished is not None:
        shown |= {
            "estimator": fit.estimator,
            "polish_gains": (fit.polished.log_likelihood or 0.0) - (fit.params.log_likelihood or 0.0),
        }
    return shown | {
        "tier": str(fit.evidence.tier),
        "parameters_on_grid_edge": on_edge(fit.params, DEFAULT_GRID),
        "distinct_sequences": fit.n_distinct,
        "fit_milliseconds": round(fit.seconds * 1000, 3),
        "dagster/row_count": 1,
    }
