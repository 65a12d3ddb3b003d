"""What can become of a skill in a night."""

from enum import StrEnum


class Outcome(StrEnum):
    """What became of a skill, or of its items, in one night."""

    CALIBRATED = "calibrated"
    SKIPPED = "skipped"  # too few answers; the stored row stays as it is
    OVERTAKEN = "overtaken"  # newer parameters were published meanwhile
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"  # calibrated, then replaced by an earlier night's parameters


# What a run can report; rolling back is a command of its own.
RUN_OUTCOMES = (Outcome.CALIBRATED, Outcome.SKIPPED, Outcome.OVERTAKEN, Outcome.FAILED)
