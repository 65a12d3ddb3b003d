"""Metadata of items in the Dagster UI: numbers that it can plot, a table of items, and a map of all items."""

import datetime as dt
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np

from bkt_pipeline.calibration.comparison import ITEM_MODELS, item_sentence
from bkt_pipeline.calibration.items import ItemsVerdict
from bkt_pipeline.calibration.labels import one_line
from bkt_pipeline.calibration.outcome import RUN_OUTCOMES, Outcome
from bkt_pipeline.db.items import flag_names
from bkt_pipeline.db.ledger import ItemsOutcome
from bkt_pipeline.defs.metadata.night_figures import item_map
from bkt_pipeline.model.irt.comparison import pool_comparisons
from bkt_pipeline.model.irt.fits import ItemStatus
from bkt_pipeline.model.irt.items import SkillItems

SHOWN = 50  # items in a skill's table


def items_metadata(verdict: ItemsVerdict, as_of: dt.datetime) -> dict[str, Any]:
    """Metadata of one skill's materialisation."""
    shown: dict[str, Any] = {
        "outcome": str(verdict.outcome),
        "as_of": dg.MetadataValue.timestamp(as_of),
        "attempts": verdict.answers,
        "students": verdict.students,
        **verdict.counts,
    }
    if verdict.reason:
        shown["reason"] = verdict.reason
    if verdict.params_since:
        shown["skill_parameters_calibrated_at"] = dg.MetadataValue.timestamp(verdict.params_since)
    if verdict.outcome is not Outcome.CALIBRATED or verdict.items is None:
        return shown
    fits, d = verdict.items.fits, verdict.items.offsets.d
    flags = Counter(name for value in fits.flags.tolist() for name in flag_names(value))
    medians = {
        f"{name}_median": statistics.median(known)
        for name, values in (("irt_a", fits.irt_a), ("irt_b", fits.irt_b), ("offset_d", d))
        if (known := [value for value in values.tolist() if not math.isnan(value)])
    }
    if verdict.log_likelihood is not None:
        shown["log_likelihood"] = verdict.log_likelihood
    return shown | {
        **medians,
        "flags": ", ".join(f"{count} {name}" for name, count in sorted(flags.items())) or "none",
        "items": dg.MetadataValue.table(_records(verdict.items)),
        "dagster/row_count": len(verdict.items),
    }


def _records(items: SkillItems) -> list[dg.TableRecord]:
    """The items that are shown, those with the most answers first."""
    fits, offsets = items.fits, items.offsets
    places = np.argsort(-fits.n_attempts, kind="stable")[:SHOWN].tolist()
    numbers = (fits.irt_a, fits.se_a, fits.irt_b, fits.se_b, offsets.d, offsets.se)
    columns = {
        "item": items.item_ids,
        **{
            name: ["" if math.isnan(value) else round(value, 3) for value in values.tolist()]
            for name, values in zip(("a", "se_a", "b", "se_b", "d", "se_d"), numbers, strict=True)
        },
        "attempts": fits.n_attempts.tolist(),
        "status": fits.status.tolist(),
        "flags": [", ".join(flag_names(value)) for value in fits.flags.tolist()],
    }
    return [dg.TableRecord({name: values[place] for name, values in columns.items()}) for place in places]


def summary_metadata(
    night: dt.date,
    outcomes: Sequence[ItemsOutcome],
    points: Mapping[str, Sequence[tuple[float, float]]],
    names: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Metadata of all items of the night; `points` are their difficulties and discriminations by status."""
    became = Counter(outcome.outcome for outcome in outcomes)
    counts = {str(status): sum(getattr(outcome, status) for outcome in outcomes) for status in ItemStatus}
    named = {skill: one_line(name) for skill, name in (names or {}).items()}
    shown = [
        dg.TableRecord(
            {
                "skill": outcome.skill_id,
                **({"name": named.get(outcome.skill_id, "")} if named else {}),
                "outcome": str(outcome.outcome),
                "reason": outcome.reason or "",
            }
        )
        for outcome in sorted(
            outcomes, key=lambda outcome: (outcome.outcome is not Outcome.FAILED, outcome.skill_id)
        )
        if outcome.outcome is not Outcome.CALIBRATED
    ]
    return {
        "night": night.isoformat(),
        "item_map": dg.MetadataValue.md(item_map(points)),
        **_comparison(outcomes),
        **counts,
        **{f"skills_{outcome}": became.get(outcome, 0) for outcome in RUN_OUTCOMES},
        "attempts": sum(outcome.attempts for outcome in outcomes),
        "log_likelihood": sum(outcome.log_likelihood or 0.0 for outcome in outcomes),
        "skipped_or_failed": dg.MetadataValue.table(shown) if shown else "none",
    }


def _comparison(outcomes: Sequence[ItemsOutcome]) -> dict[str, Any]:
    """How well each item model predicts held-out answers: one sentence, and the numbers that Dagster plots over nights."""
    compared = pool_comparisons(outcome.comparison for outcome in outcomes if outcome.comparison)
    if compared is None:
        return {"best_item_model": "none: too few students to hold some out"}
    numbers = {f"held_out_{name}": getattr(compared, name) for name in ITEM_MODELS}
    return {"best_item_model": item_sentence(compared), **numbers, "held_out_answers": compared.n_answers}
