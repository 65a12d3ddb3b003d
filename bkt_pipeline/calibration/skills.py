"""Turns a batch of windows into verdicts: which skills are calibrated, skipped or failed."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bkt_pipeline.calibration.baseline import History
from bkt_pipeline.calibration.check import Finding, refusal
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.skill_checks import skill_has_enough_attempts, verify
from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.fit import Estimator, SkillFit
from bkt_pipeline.model.bkt.prior import SHIPPED_PRIOR, SchoolPrior
from bkt_pipeline.model.params import BktParams
from bkt_pipeline.settings import MIN_ATTEMPTS, WINDOW_DAYS

LOW_DATA_EVENT = "bkt_skip_low_data"
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class SkillOptions:
    """Which skills are calibrated, and how; `CalibrationSettings` describes each option."""

    window_days: int = WINDOW_DAYS
    min_attempts: int = MIN_ATTEMPTS
    estimator: Estimator = "grid"
    sequences: str = "window"
    publish: bool = True


def require_estimates(min_attempts: int, estimator: str) -> None:
    """Check that the estimator has an estimate for every skill that is calibrated.

    Raises
    ------
    InvalidSettings
        Skills without answers are calibrated, and the estimator has none for them.
    """
    if min_attempts < 1 and estimator != "pooled":
        raise InvalidSettings(
            f"min_attempts is {min_attempts} and the estimator is {estimator}, but only pooled has an estimate for a skill "
            "without answers; use pooled, or a min_attempts of at least 1"
        )


@dataclass(frozen=True)
class SkillVerdict:
    """The outcome of one skill's window: a fit, or the reason why there is none."""

    skill_id: str
    outcome: Outcome
    window: AttemptWindow | None = field(default=None, repr=False)
    fit: SkillFit | None = None
    reason: str | None = None
    findings: tuple[Finding, ...] = ()
    previous: BktParams | None = None

    @property
    def result(self) -> SkillFit | None:
        """What will be published."""
        return self.fit

    def without_result(self, outcome: Outcome, reason: str) -> "SkillVerdict":
        """The verdict with another outcome, when its fit was not published after all."""
        return replace(self, outcome=outcome, fit=None, reason=reason)


def judge(
    keys: Sequence[str],
    windows: Mapping[str, AttemptWindow],
    failed: Mapping[str, str],
    as_of: dt.datetime,
    options: SkillOptions,
    history: Mapping[str, History],
    prior: SchoolPrior = SHIPPED_PRIOR,
) -> Iterator[SkillVerdict]:
    """Calibrate every skill that has enough data; each key gets exactly one verdict, in no particular order.

    Parameters
    ----------
    keys
        The skills of the batch.
    windows
        The windows of the skills that have one.
    failed
        Skills that have already failed, with the reason.
    as_of
        The end of the run's windows.
    options
        Which skills are calibrated, and how.
    history
        The earlier nights of the skills that have been calibrated before.
    prior
        The school's prior, learned from all of its skills; for the pooled estimate and the intervals.
    """
    from bkt_pipeline.model import calibrate_all

    enough = {}
    for key in keys:
        window = windows.get(key)
        if key in failed:
            yield SkillVerdict(key, Outcome.FAILED, window, reason=failed[key])
        elif window is None:
            reason = "it has no stored window; materialise attempt_window for it first"
            yield SkillVerdict(key, Outcome.FAILED, reason=reason)
        elif mismatch := other_window(window, as_of, options):
            yield SkillVerdict(key, Outcome.FAILED, window, reason=mismatch)
        elif attempts_inside(window) < options.min_attempts:
            finding = skill_has_enough_attempts(attempts_inside(window), options.min_attempts)
            reason = low_data(window, options.min_attempts)
            yield SkillVerdict(key, Outcome.SKIPPED, window, reason=reason, findings=(finding,))
        else:
            enough[key] = window
    fits = calibrate_all(enough, prior=prior, polished=True, estimator=options.estimator, scored=True)
    for key, fit in fits:
        if isinstance(fit, Exception):
            reason = f"{type(fit).__name__}: {fit}"
            yield SkillVerdict(key, Outcome.FAILED, enough[key], reason=reason)
        else:
            yield checked(enough[key], fit, options.min_attempts, history.get(key, History()))


def checked(window: AttemptWindow, fit: SkillFit, min_attempts: int, history: History) -> SkillVerdict:
    """The verdict on a fit: calibrated, or failed if one of its checks is an error."""
    try:
        enough = skill_has_enough_attempts(attempts_inside(window), min_attempts)
        findings = (enough, *verify(window, fit, history))
    except Exception as error:
        reason = f"not published, because its checks could not be evaluated: {type(error).__name__}: {error}"
        return SkillVerdict(fit.skill_id, Outcome.FAILED, window, reason=reason)
    if wrong := refusal(findings):
        return SkillVerdict(fit.skill_id, Outcome.FAILED, window, reason=wrong, findings=findings)
    return SkillVerdict(
        fit.skill_id, Outcome.CALIBRATED, window, fit, findings=findings, previous=history.params
    )


def other_window(window: AttemptWindow, as_of: dt.datetime, options: SkillOptions) -> str | None:
    """Why this run must not calibrate from a stored window; None if it may."""
    if window.as_of > as_of:
        found = f"is as of {window.as_of.isoformat()}, newer than the run's as_of {as_of.isoformat()}"
    elif window.window_days != options.window_days:
        found = f"has {window.window_days} days, but the run asks for {options.window_days}"
    elif window.sequences != options.sequences:
        found = f"has sequences {window.sequences}, but the run asks for {options.sequences}"
    else:
        return None
    return f"its stored window {found}; materialise attempt_window together with skill_bkt_params"


def attempts_inside(window: AttemptWindow) -> int:
    """Graded answers inside the window itself, without earlier ones of the same students."""
    begin = window.as_of - dt.timedelta(days=window.window_days)
    return int(np.count_nonzero(window.answered_at > (begin - EPOCH) // dt.timedelta(microseconds=1)))


def low_data(window: AttemptWindow, min_attempts: int) -> str:
    """Why a skill is skipped, with its number of attempts."""
    return (
        f"{attempts_inside(window)} graded attempts in {window.window_days} days, fewer than {min_attempts}"
    )


def thin(attempts: int) -> str:
    """Why a fit on few attempts is not published."""
    return f"fitted on {attempts} graded attempts, too few to replace the existing row"


def overtaken(newer: dt.datetime | None = None) -> str:
    """Why a skill's row is not replaced: newer parameters have been published."""
    return "newer parameters are published" + (f", as of {newer.isoformat()}" if newer else "")
