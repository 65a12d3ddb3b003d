"""What the Dagster UI shows of an outcome: numbers that it can plot, and why there are none."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from bkt_pipeline.calibration import Verdict
from bkt_pipeline.model.types import AttemptWindow


def window_metadata(
    windows: Mapping[str, AttemptWindow], as_of: dt.datetime, window_days: int
) -> dict[str, Any]:
    """Metadata of the windows of a run, which Dagster attaches to each of its partitions."""
    shown: dict[str, Any] = {"as_of": as_of.isoformat(), "window_days": window_days}
    if len(windows) > 1:
        shown["skills_in_run"] = len(windows)
    return shown | {
        "attempts": sum(window.n_attempts for window in windows.values()),
        "students": sum(window.n_students for window in windows.values()),
        "ungraded": sum(window.ungraded for window in windows.values()),
    }


def verdict_metadata(verdict: Verdict, standing: dt.datetime | None = None) -> dict[str, Any]:
    """Metadata of one skill's materialisation; `standing` is when the row that stays was calibrated."""
    shown: dict[str, Any] = {"outcome": verdict.outcome}
    if verdict.reason:
        shown["reason"] = verdict.reason
    if verdict.window is not None:
        shown |= {
            "as_of": verdict.window.as_of.isoformat(),
            "attempts": verdict.window.n_attempts,
            "students": verdict.window.n_students,
            "ungraded": verdict.window.ungraded,
        }
    if verdict.fit is None or verdict.outcome != "calibrated":
        return shown | {
            "stored_row_calibrated_at": standing.isoformat() if standing else "no row is stored yet"
        }
    fit = verdict.fit
    likelihood = fit.params.log_likelihood
    shown |= {
        "p_l0": fit.params.p_l0,
        "p_transit": fit.params.p_transit,
        "p_slip": fit.params.p_slip,
        "p_guess": fit.params.p_guess,
        "distinct_sequences": fit.n_distinct,
        "fit_milliseconds": round(fit.seconds * 1000, 3),
    }
    if likelihood is not None:
        shown |= {"log_likelihood": likelihood, "log_likelihood_per_attempt": likelihood / fit.n_attempts}
    return shown
