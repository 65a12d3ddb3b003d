"""Metadata of the night's summary, which a team reads in the morning."""

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from bkt_pipeline.calibration.labels import one_line
from bkt_pipeline.calibration.outcome import RUN_OUTCOMES, Outcome
from bkt_pipeline.db.nights import SkillNight, compare_night, largest_moves
from bkt_pipeline.db.schema import PARAMETERS

SHOWN = 10


def worst_fits(night: Sequence[SkillNight]) -> list[SkillNight]:
    """The skills with the lowest log-likelihood per attempt, the worst first."""
    fitted = [(skill.per_attempt, skill) for skill in night if skill.per_attempt is not None]
    return [skill for _, skill in sorted(fitted, key=lambda pair: (pair[0], pair[1].skill_id))[:SHOWN]]


def night_metadata(
    night: dt.date, skills: Sequence[SkillNight], names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The summary below its page: numbers that Dagster plots over nights, and tables."""
    names = {skill: one_line(name) for skill, name in (names or {}).items()}
    counts = Counter(skill.outcome for skill in skills)
    fitted = [
        skill for skill in skills if skill.params is not None and skill.params.log_likelihood is not None
    ]
    fitted_attempts = sum(skill.attempts or 0 for skill in fitted)
    likelihood = sum(skill.params.log_likelihood or 0.0 for skill in fitted if skill.params)
    moves = largest_moves(skills)
    shown: dict[str, Any] = {
        "night": night.isoformat(),
        "skills": len(skills),
        **{str(outcome): counts.get(outcome, 0) for outcome in RUN_OUTCOMES},
        "attempts": sum(skill.attempts or 0 for skill in skills),
        "log_likelihood": likelihood,
        "largest_moves": _table([_move(skill) for skill in moves], names),
        **_comparison(skills),
        "worst_fits": _table([_fit(skill) for skill in worst_fits(skills)], names),
        "skipped_or_failed": _table(
            [
                {"skill": skill.skill_id, "outcome": str(skill.outcome), "reason": skill.reason or ""}
                for skill in sorted(
                    skills, key=lambda skill: (skill.outcome is not Outcome.FAILED, skill.skill_id)
                )
                if skill.outcome is not Outcome.CALIBRATED
            ],
            names,
        ),
    }
    return shown | ({"log_likelihood_per_attempt": likelihood / fitted_attempts} if fitted_attempts else {})


def _comparison(skills: Sequence[SkillNight]) -> dict[str, Any]:
    """Which estimator predicts held-out students best: a sentence, and a table of the mean scores."""
    compared = compare_night(skills)
    if compared is None:
        return {"best_estimator": "none: too few students to hold some out"}
    rows: list[dict[str, str | float | int]] = [
        {
            "estimator": name,
            "log_likelihood_per_answer": round(scores.log_likelihood, 4),
            "auc": "" if scores.auc is None else round(scores.auc, 4),
            "rmse": round(scores.rmse, 4),
        }
        for name, scores in compared.means.items()
    ]
    return {
        "best_estimator": compared.sentence,
        "best_estimator_gain_mnat": compared.gain,
        "estimators": _table(rows),
    }


def _move(skill: SkillNight) -> dict[str, str | float | int]:
    assert skill.params is not None
    assert skill.previous is not None
    row: dict[str, str | float | int] = {"skill": skill.skill_id}
    for name, before, now in zip(PARAMETERS, skill.previous.values, skill.params.values, strict=True):
        row[name] = f"{now:g}" if now == before else f"{before:g} → {now:g}"
    return row | {"attempts": skill.attempts or 0}


def _fit(skill: SkillNight) -> dict[str, str | float | int]:
    assert skill.params is not None
    assert skill.per_attempt is not None
    row: dict[str, str | float | int] = {"skill": skill.skill_id, "per_attempt": round(skill.per_attempt, 4)}
    return row | dict(zip(PARAMETERS, skill.params.values, strict=True)) | {"attempts": skill.attempts or 0}


def _table(
    rows: Sequence[dict[str, str | float | int]], names: Mapping[str, str] | None = None
) -> dg.MetadataValue | str:
    if names:
        rows = [{"skill": row["skill"], "name": names.get(str(row["skill"]), ""), **row} for row in rows]
    return dg.MetadataValue.table([dg.TableRecord(row) for row in rows]) if rows else "none"
