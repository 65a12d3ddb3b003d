"""A batch of windows becomes outcomes: who is skipped, who is calibrated, who failed. Knows no Dagster and no SQL."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bkt_pipeline.calibration.baseline import History
from bkt_pipeline.calibration.skill_checks import Finding, has_enough, refusal, verify
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.fit import Estimator, SkillFit
from bkt_pipeline.model.params import BktParams

LOW_DATA_EVENT = "bkt_skip_low_data"


@dataclass(frozen=True)
class Rules:
    """Who is calibrated, and how; `CalibrationSettings` says what each means."""

    min_attempts: int = 50
    polish: bool = False
    estimator: Estimator = "grid"


@dataclass(frozen=True)
class Verdict:
    """What became of one skill's window: a fit, or the reason why there is none."""

    skill_id: str
    outcome: str
    window: AttemptWindow | None = field(default=None, repr=False)
    fit: SkillFit | None = None
    reason: str | None = None
    findings: tuple[Finding, ...] = ()
    previous: BktParams | None = None


def judge(
    keys: Sequence[str],
    windows: Mapping[str, AttemptWindow],
    failed: Mapping[str, str],
    as_of: dt.datetime,
    rules: Rules,
    history: Mapping[str, History],
) -> Iterator[Verdict]:
    """Calibrate every skill that has the data for it; each key gets exactly one verdict, in no particular order.

    Parameters
    ----------
    keys
        The skills of the batch.
    windows
        The stored windows of those that have one.
    failed
        Skills that failed before they came here, with the reason.
    as_of
        What the run calibrates to; a window that is newer is another run's business.
    rules
        Who is calibrated, and how.
    history
        What earlier nights left of those that have been calibrated before.
    """
    from bkt_pipeline.model import calibrate_all

    enough = {}
    for key in keys:
        window = windows.get(key)
        if key in failed:
            yield Verdict(key, "failed", window, reason=failed[key])
        elif window is None:
            yield Verdict(
                key, "failed", reason="it has no stored window; materialise attempt_window for it first"
            )
        elif window.as_of > as_of:
            yield Verdict(key, "overtaken", window, reason=overtaken(window.as_of))
        elif window.n_attempts < rules.min_attempts:
            finding = has_enough(window.n_attempts, rules.min_attempts)
            said = low_data(window, rules.min_attempts)
            yield Verdict(key, "skipped", window, reason=said, findings=(finding,))
        else:
            enough[key] = window
    polished = rules.polish or rules.estimator == "polished"
    for key, fit in calibrate_all(enough, polished=polished):
        if isinstance(fit, Exception):
            yield Verdict(key, "failed", enough[key], reason=f"{type(fit).__name__}: {fit}")
        else:
            fit = replace(fit, estimator=rules.estimator)
            yield checked(enough[key], fit, rules.min_attempts, history.get(key, History()))


def checked(window: AttemptWindow, fit: SkillFit, min_attempts: int, history: History) -> Verdict:
    """The verdict on a fit: calibrated, or failed where its own numbers cannot be right."""
    try:
        findings = (has_enough(window.n_attempts, min_attempts), *verify(window, fit, history))
    except Exception as error:
        said = f"not published, its checks could not be evaluated: {type(error).__name__}: {error}"
        return Verdict(fit.skill_id, "failed", window, reason=said)
    if wrong := refusal(findings):
        return Verdict(fit.skill_id, "failed", window, reason=wrong, findings=findings)
    return Verdict(fit.skill_id, "calibrated", window, fit, findings=findings, previous=history.params)


def low_data(window: AttemptWindow, min_attempts: int) -> str:
    """Why a skill is skipped, with the count."""
    return f"{window.n_attempts} graded attempts in {window.window_days} days, fewer than {min_attempts}"


def overtaken(newer: dt.datetime | None = None) -> str:
    """Why a skill is left as it is: another run was faster with newer data."""
    return "a newer calibration stands" + (f", as of {newer.isoformat()}" if newer else "")
