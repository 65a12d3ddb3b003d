"""The checks of a skill's window of attempts."""

import datetime as dt
from dataclasses import dataclass

import numpy as np

from bkt_pipeline.calibration.check import Decision, Finding, check
from bkt_pipeline.model.attempts import AttemptWindow

UNGRADED_SHARE = 0.05
FRESH_HOURS = 48.0


@dataclass(frozen=True)
class WindowCounts:
    """What was counted beside a window.

    Attributes
    ----------
    in_future
        Attempts of the skill with a timestamp in the future.
    without_student
        Attempts in the window that were left out because they have no student.
    repeats
        Attempts in the window that repeat another: same student, item, time and answer.
    tied
        Answers in the window whose place in their student's sequence is a guess.
    """

    in_future: int = 0
    without_student: int = 0
    repeats: int = 0
    tied: int = 0


def verify_window(window: AttemptWindow, counts: WindowCounts) -> tuple[Finding, ...]:
    """All findings on a window."""
    return (
        window_is_graded(window),
        window_is_fresh(window),
        no_future_attempts(counts.in_future),
        attempt_order_is_known(counts.tied),
    )


@check(
    f"At most {UNGRADED_SHARE:.0%} of the attempts in the window are ungraded.",
    what_to_do="find out why attempts remain ungraded; ungraded attempts are left out of the calibration",
    threshold=UNGRADED_SHARE,
)
def window_is_graded(window: AttemptWindow, threshold: float) -> Decision:
    seen = window.n_attempts + window.ungraded
    share = window.ungraded / seen if seen else 0.0
    return share <= threshold, {"actual": share, "ungraded": window.ungraded}


@check(
    f"The newest graded attempt is at most {FRESH_HOURS:g} hours older than the window's end.",
    what_to_do="nothing during holidays; otherwise check whether attempts still arrive in the platform's database",
    threshold=FRESH_HOURS,
)
def window_is_fresh(window: AttemptWindow, threshold: float) -> Decision:
    newest = newest_attempt(window)
    if newest is None:
        return False, {"actual": "none: no graded attempt in the window"}
    hours = (window.as_of - newest).total_seconds() / 3600.0
    return hours <= threshold, {"actual": hours}


@check(
    "No attempt of the skill has a timestamp in the future.",
    what_to_do="a clock or a time zone is wrong: created_at must be in UTC or have a time zone; correct the rows",
    error=True,
    threshold=0,
)
def no_future_attempts(in_future: int, threshold: float) -> Decision:
    return in_future <= threshold, {"actual": in_future}


@check(
    "The order of every student's answers is known: where several have the same time, a key settles it.",
    what_to_do="the parameters depend on a guess; give attempts an integer column attempt_order that counts each student's "
    "answers, in the table or in a view, or times of a finer resolution",
    threshold=0,
)
def attempt_order_is_known(tied: int, threshold: float) -> Decision:
    return tied <= threshold, {"actual": tied}


def newest_attempt(window: AttemptWindow) -> dt.datetime | None:
    """The time of the latest graded answer in the window; None if there is none."""
    if not window.n_attempts:
        return None
    return dt.datetime.fromtimestamp(int(np.max(window.answered_at)) / 1e6, dt.UTC)


WINDOW_CHECKS = (window_is_graded, window_is_fresh, no_future_attempts, attempt_order_is_known)
