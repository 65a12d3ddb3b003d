"""The checks of a skill's window of attempts."""

import datetime as dt

import numpy as np

from bkt_pipeline.calibration.check import Decision, Finding, check
from bkt_pipeline.model.attempts import AttemptWindow

UNGRADED_SHARE = 0.05
FRESH_HOURS = 48.0


def verify_window(window: AttemptWindow, in_future: int) -> tuple[Finding, ...]:
    """All findings on a window; `in_future` is how many attempts of the skill have a timestamp in the future."""
    return window_is_graded(window), window_is_fresh(window), no_future_attempts(in_future)


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


def newest_attempt(window: AttemptWindow) -> dt.datetime | None:
    """The time of the latest graded answer in the window; None if there is none."""
    if not window.n_attempts:
        return None
    return dt.datetime.fromtimestamp(int(np.max(window.answered_at)) / 1e6, dt.UTC)


WINDOW_CHECKS = (window_is_graded, window_is_fresh, no_future_attempts)
