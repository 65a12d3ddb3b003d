"""The possible outcomes of a skill in a night."""

from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of a skill, or of its items, in one night."""

    CALIBRATED = "calibrated"
    SKIPPED = "skipped"  # too few answers; the stored row is kept
    OVERTAKEN = "overtaken"  # newer parameters were published in the meantime
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"  # calibrated, then replaced by an earlier night's parameters


# The outcomes that a run can report; `rolled_back` comes from the command `rollback`.
RUN_OUTCOMES = (Outcome.CALIBRATED, Outcome.SKIPPED, Outcome.OVERTAKEN, Outcome.FAILED)
