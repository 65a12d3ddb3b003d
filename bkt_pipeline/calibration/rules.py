"""The checks in words: what each says when it is green, and what to do when it is not."""

from dataclasses import dataclass

HISTORY_NIGHTS = 14
NIGHTS_NEEDED = 5
DEVIATIONS = 5.0
UNGRADED_SHARE = 0.05
FRESH_HOURS = 48.0


@dataclass(frozen=True)
class Rule:
    """A check: what it says when green, whether failing it is an error (else a warning), and what to do then."""

    description: str
    error: bool
    todo: str


CALIBRATION_RULES = {
    "skill_has_enough_attempts": Rule(
        "The window held enough graded attempts to calibrate the skill; else the older row stands.",
        False,
        "nothing, unless it should have more: look at attempt_window, and at the ungraded attempts",
    ),
    "log_likelihood_is_finite": Rule(
        "The log-likelihood is finite, negative and what a recomputation from the stored window gives.",
        True,
        "the row was not replaced; materialise attempt_window and skill_bkt_params again for this skill, and "
        "report a bug if it stays",
    ),
    "log_likelihood_is_grid_maximum": Rule(
        "No neighbour of the winner on the grid (one step along an axis) is more probable.",
        True,
        "the row was not replaced; the search missed the maximum: report a bug with the skill's parameters",
    ),
    "log_likelihood_beats_chance": Rule(
        "Per attempt better than one constant success rate for the skill, and than the default parameters.",
        False,
        "look whether the skill's items belong together; four parameters tell no more here than one rate",
    ),
    "log_likelihood_holds_out": Rule(
        "Fitted on 80% of the students, the others are predicted better than by the success rate of the 80%, and "
        "no worse than by last night's parameters.",
        False,
        "few students: wait for more; many: look what changed in items or grading since last night",
    ),
    "log_likelihood_is_in_family": Rule(
        f"Per attempt not below the median of the last {HISTORY_NIGHTS} nights by more than {DEVIATIONS:g} robust "
        f"deviations; silent until {NIGHTS_NEEDED} nights exist.",
        False,
        "look what changed since: new items, another grading, another population of students",
    ),
    "parameters_are_identified": Rule(
        "The answers tell all four parameters: none on the grid's edge, no degenerate skill, enough students.",
        False,
        "read the flags; trust the parameters as far as their intervals are narrow, and wait for more students",
    ),
    "stored_row_matches": Rule(
        "What the backend would read now is what was calibrated.",
        True,
        "look who else writes skill_bkt_params (a trigger, another program, a column of few digits), then "
        "materialise the skill again",
    ),
}

WINDOW_RULES = {
    "window_is_graded": Rule(
        f"At most {UNGRADED_SHARE:.0%} of the attempts in the window are not graded yet.",
        False,
        "ask why attempts stay ungraded; they are no evidence and are left out",
    ),
    "window_is_fresh": Rule(
        f"The newest graded attempt is at most {FRESH_HOURS:g} hours older than the window's end.",
        False,
        "holidays: nothing; else see whether attempts still arrive in the platform's database",
    ),
    "no_future_attempts": Rule(
        "No attempt of the skill bears a time that is still to come.",
        True,
        "a clock or a time zone is wrong: created_at must be UTC, or bear its zone; correct the rows",
    ),
}
