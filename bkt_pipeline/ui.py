"""What the Dagster UI shows of tables and outcomes: columns, numbers that it can plot, and why there are none."""

import datetime as dt
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import dagster as dg
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from bkt_pipeline.calibration import Verdict
from bkt_pipeline.db.schema import PARAMETERS, SCHEMA, TARGET, TARGET_COMMENTS
from bkt_pipeline.model.types import AttemptWindow
from bkt_pipeline.verification import newest_attempt

OWNERS = ["team:learning-analytics"]
_ID = "uuid, text or bigint"
_PLATFORM_TYPES = {
    **dict.fromkeys(("id", "skill_id", "item_id", "student_id"), _ID),
    **dict.fromkeys(("active", "is_correct"), "boolean"),
    **dict.fromkeys(("created_at", "calibrated_at"), "timestamp"),
}


def own_table(table: Table) -> dict[str, Any]:
    """Metadata of a table of ours: its name and its columns, as the schema describes them."""
    columns = [
        dg.TableColumn(
            column.name,
            column.type.compile(postgresql.dialect()).lower(),
            column.comment,
            dg.TableColumnConstraints(nullable=bool(column.nullable)),
        )
        for column in table.columns
    ]
    return _described(f"{SCHEMA}.{table.name}", columns)


def platform_table(name: str, comments: Mapping[str, str]) -> dict[str, Any]:
    """Metadata of a table in the platform's schema, of the columns that we rely on."""
    columns = [
        dg.TableColumn(column, _PLATFORM_TYPES.get(column, "double precision"), said)
        for column, said in comments.items()
    ]
    return _described(name, columns)


def target_table() -> dict[str, Any]:
    """Metadata of the table that the backend reads."""
    return platform_table(TARGET, TARGET_COMMENTS)


def _described(name: str, columns: list[dg.TableColumn]) -> dict[str, Any]:
    return {"dagster/table_name": name, "dagster/column_schema": dg.TableSchema(columns)}


def window_metadata(window: AttemptWindow, without_student: int) -> dict[str, Any]:
    """Metadata of one skill's window, and how many attempts it left out for want of a student."""
    shown: dict[str, Any] = {
        "as_of": window.as_of.isoformat(),
        "window_days": window.window_days,
        "attempts": window.n_attempts,
        "students": window.n_students,
        "ungraded": window.ungraded,
        "without_student": without_student,
        "distinct_sequences": len({window.responses[a:b].tobytes() for a, b in pairwise(window.offsets)}),
        "dagster/row_count": window.n_students,
    }
    newest = newest_attempt(window)
    if newest is None:
        return shown
    return shown | {
        "newest_attempt": newest.isoformat(),
        "success_rate": round(float(window.responses.mean()), 4),
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
    for name in PARAMETERS:
        shown[name] = getattr(fit.published, name)
        if fit.uncertainty is not None:
            estimate = getattr(fit.uncertainty, name)
            shown |= {f"{name}_low": round(estimate.low, 4), f"{name}_high": round(estimate.high, 4)}
        if verdict.previous is not None:
            # Decimal values of a grid: what is left after 12 digits is the floats' own noise.
            shown[f"{name}_change"] = round(shown[name] - getattr(verdict.previous, name), 12)
    likelihood = fit.published.log_likelihood
    if likelihood is not None:
        shown |= {"log_likelihood": likelihood, "log_likelihood_per_attempt": likelihood / fit.n_attempts}
    if fit.polished is not None:
        shown |= {
            "estimator": fit.estimator,
            "polish_gains": fit.polished.log_likelihood - fit.params.log_likelihood,
        }
    return shown | {
        "tier": str(fit.evidence.tier),
        "distinct_sequences": fit.n_distinct,
        "fit_milliseconds": round(fit.seconds * 1000, 3),
        "dagster/row_count": 1,
    }
