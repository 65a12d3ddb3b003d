"""The checks of a whole night: whether it calibrated anything, read as many attempts as usual, and kept parameters fresh."""

import datetime as dt
from collections.abc import Collection, Mapping
from statistics import median

from bkt_pipeline.calibration.check import Decision, Finding, check
from bkt_pipeline.calibration.outcome import Outcome

USUAL_NIGHTS = 7  # earlier nights that define the usual number of attempts
FRESH_NIGHTS = 7  # nights after which parameters count as old


def verify_night(
    outcomes: Mapping[Outcome, int], attempts: int, earlier: Collection[int]
) -> tuple[Finding, ...]:
    """All findings on a night, from its skills by outcome, its attempts and the attempts of `earlier` nights."""
    return some_skill_is_calibrated(outcomes), attempts_are_as_many_as_usual(attempts, earlier)


@check(
    "At least one skill was calibrated.",
    what_to_do="read why skills were skipped or failed; if all were skipped, check whether attempts still arrive and "
    "whether the window covers the data; if all were overtaken, a newer night has published: use a later as_of, or roll "
    "back first",
    error=True,
)
def some_skill_is_calibrated(outcomes: Mapping[Outcome, int]) -> Decision:
    calibrated = outcomes.get(Outcome.CALIBRATED, 0)
    return calibrated > 0, {"actual": calibrated, "threshold": 1, "skills": sum(outcomes.values())}


@check(
    f"The night read at least half as many attempts as the median of the last {USUAL_NIGHTS} nights.",
    what_to_do="check whether attempts still arrive in the platform's database, and whether its clock is right; during "
    "holidays nothing needs to be done",
    error=True,
    threshold=0.5,
)
def attempts_are_as_many_as_usual(attempts: int, earlier: Collection[int], threshold: float) -> Decision:
    usual = median(earlier) if earlier else 0
    if not usual:
        return True, {"actual": attempts, "nights": len(earlier)}
    share = attempts / usual
    return share >= threshold, {"actual": share, "attempts": attempts, "usual_attempts": usual}


@check(
    f"Of the active skills with parameters, at least 80% were calibrated within {FRESH_NIGHTS} nights; skipping a skill does "
    "not make its parameters fresh.",
    what_to_do="read the reasons in skipped_or_failed; a skill with few answers keeps its old parameters unless the estimator "
    "is pooled and min_attempts is low",
    threshold=0.8,
)
def parameters_are_fresh(
    calibrated: Collection[dt.datetime | None], as_of: dt.datetime, threshold: float
) -> Decision:
    # None: nobody knows when the row was calibrated, so it is not fresh.
    fresh = sum(since is not None and since > as_of - dt.timedelta(FRESH_NIGHTS) for since in calibrated)
    share = fresh / len(calibrated) if calibrated else 1.0
    return share >= threshold, {"actual": share, "fresh": fresh, "skills_with_parameters": len(calibrated)}


NIGHT_CHECKS = (some_skill_is_calibrated, attempts_are_as_many_as_usual, parameters_are_fresh)
