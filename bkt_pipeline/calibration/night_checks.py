"""The checks of a whole night: whether it calibrated anything, and whether it read as many attempts as usual."""

from collections.abc import Collection, Mapping
from statistics import median

from bkt_pipeline.calibration.check import Decision, Finding, check
from bkt_pipeline.calibration.outcome import Outcome

USUAL_NIGHTS = 7  # earlier nights that define the usual number of attempts


def verify_night(
    outcomes: Mapping[Outcome, int], attempts: int, earlier: Collection[int]
) -> tuple[Finding, ...]:
    """All findings on a night, from its skills by outcome, its attempts and the attempts of `earlier` nights."""
    return some_skill_is_calibrated(outcomes), attempts_are_as_many_as_usual(attempts, earlier)


@check(
    "At least one skill was calibrated.",
    what_to_do="read the reasons in skipped_or_failed; if all skills were skipped, check whether attempts still arrive "
    "and whether the window covers the data",
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


NIGHT_CHECKS = (some_skill_is_calibrated, attempts_are_as_many_as_usual)
