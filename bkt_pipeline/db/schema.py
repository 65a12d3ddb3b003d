"""The tables in the schema `bkt_pipeline`, with their column types and comments.

The migrations create them. They key skills and students by the text of their id, whatever its type
on the platform, because that text is the partition key. The platform's own tables are in
`platform.py`.
"""

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

SCHEMA = "bkt_pipeline"


own = MetaData(schema=SCHEMA)


moment = TIMESTAMP(timezone=True)


attempt_windows = Table(
    "attempt_windows",
    own,
    Column("skill_id", Text, primary_key=True, comment="Skill, as the text of skills.id"),
    Column("as_of", moment, nullable=False, comment="End of the window, included"),
    Column("window_days", Integer, nullable=False, comment="Length of the window in days"),
    Column(
        "sequences",
        Text,
        nullable=False,
        server_default="window",
        comment="Where each sequence begins: window, or from_first_answer (which may be before the window)",
    ),
    Column("attempts", BigInteger, nullable=False, comment="Graded attempts in the window"),
    Column("students", BigInteger, nullable=False, comment="Students with a graded attempt in the window"),
    Column("ungraded", BigInteger, nullable=False, comment="Attempts left out because is_correct is NULL"),
    Column("run_id", Text, nullable=False, comment="Dagster run that stored the window"),
    Column("stored_at", moment, nullable=False, comment="When it was stored"),
    comment="The latest window read for each skill, one row per skill",
)


attempt_window = Table(
    "attempt_window",
    own,
    Column("skill_id", Text, primary_key=True, comment="Skill, as the text of skills.id"),
    Column("student_id", Text, primary_key=True, comment="Student, as the text of attempts.student_id"),
    Column("answers", Text, nullable=False, comment="Graded answers in order: 1 right, 0 wrong"),
    Column(
        "answered_at", ARRAY(moment), nullable=False, comment="created_at of each answer, in the same order"
    ),
    comment="The graded attempts of the latest window, one row per skill and student",
)


published_params = Table(
    "published_params",
    own,
    Column("skill_id", Text, primary_key=True, comment="Skill, as the text of skills.id"),
    Column("as_of", moment, nullable=False, comment="as_of of the calibration that skill_bkt_params shows"),
    Column("run_id", Text, nullable=False, comment="Dagster run that published it"),
    Column(
        "attempts",
        BigInteger,
        comment="Graded attempts that it was fitted on; NULL if an older version published it",
    ),
    comment="The calibration that each row of skill_bkt_params comes from; an older one never replaces it",
)


PARAMETERS = {
    "p_l0": "P(known before the first attempt), the prior",
    "p_transit": "P(unknown becomes known) after each attempt",
    "p_slip": "P(wrong | known)",
    "p_guess": "P(right | unknown)",
}


ESTIMATES = {
    "mean": "mean of the posterior",
    "sd": "standard deviation of the posterior",
    "low": "lower end of its 95% interval",
    "high": "upper end of its 95% interval",
    "profile_low": "lowest value within 1.92 nats of the optimum",
    "profile_high": "highest value within 1.92 nats of the optimum",
}


# The parameters whose predictions are compared on held-out students, and the scores of that comparison.
COMPARED = {
    "grid": "under the grid's best point",
    "polished": "under the continuous optimum",
    "pooled": "under the mode with the school's prior",
    "default": "under the default parameters",
    "constant": "under one constant success rate",
}
COMPARED_ITEMS = {
    "bkt": "under the skill's parameters alone",
    "success_rate": "under each item's success rate",
    "two_pl": "under the two-parameter logistic model",
    "offset": "under the offset model",
}
SCORES = {
    "log_likelihood": "Log-likelihood per answer, in nats,",
    "auc": "Area under the ROC curve",
    "rmse": "Root mean squared error",
}


def _parameter_columns(prefix: str, what: str, *, nullable: bool) -> list[Column[Any]]:
    columns: list[Column[Any]] = [
        Column(f"{prefix}{name}", Double, nullable=nullable, comment=f"{meaning}{what}")
        for name, meaning in PARAMETERS.items()
    ]
    comment = f"Log-likelihood of the window's answers under these parameters{what}, in nats"
    return [*columns, Column(f"{prefix}log_likelihood", Double, comment=comment)]


skill_fits = Table(
    "skill_fits",
    own,
    Column("night", Date, primary_key=True, comment="UTC date of as_of"),
    Column("skill_id", Text, primary_key=True, comment="Skill, as the text of skills.id"),
    Column("as_of", moment, nullable=False, comment="End of the window that was calibrated"),
    *_parameter_columns("", ", as published to skill_bkt_params", nullable=False),
    *_parameter_columns("grid_", ", at the best point of the grid", nullable=False),
    *_parameter_columns("polished_", ", at the continuous optimum", nullable=True),
    *_parameter_columns("pooled_", ", at the mode under the school's prior", nullable=True),
    Column("attempts", BigInteger, nullable=False, comment="Graded attempts in the window"),
    Column("students", BigInteger, nullable=False, comment="Students with a graded attempt in the window"),
    Column("distinct_sequences", BigInteger, nullable=False, comment="Number of distinct answer sequences"),
    Column("ungraded", BigInteger, nullable=False, comment="Attempts left out because is_correct is NULL"),
    Column(
        "tier",
        Text,
        nullable=False,
        comment="insufficient, provisional, usable or good, by number of students",
    ),
    Column("flags", ARRAY(Text), nullable=False, comment="Names of what the answers cannot determine"),
    Column(
        "answers_to_mastery",
        Integer,
        comment="Right answers in a row until P(known) reaches 0.95; NULL: it never does",
    ),
    Column("share_with_three", Double, nullable=False, comment="Share of students with 3 or more attempts"),
    *(
        Column(f"{name}_{part}", Double, comment=f"{name}: {meaning}")
        for name in PARAMETERS
        for part, meaning in ESTIMATES.items()
    ),
    Column("gap", Double, comment="Nats between the best and the second-best grid point; 0 for a tie"),
    Column("points_close", Integer, comment="Grid points within 1.92 nats of the best"),
    Column("estimator", Text, nullable=False, comment="Published estimator: grid, polished or pooled"),
    Column(
        "moment_mean",
        ARRAY(Double),
        comment="Mean of the logits' posterior under the shipped prior, 4 values",
    ),
    Column("moment_covariance", ARRAY(Double), comment="Its covariance, 4 x 4 values by rows"),
    Column(
        "held_out_students",
        BigInteger,
        comment="Students held out to compare the estimators; NULL if there were too few",
    ),
    Column("held_out_attempts", BigInteger, comment="Graded attempts of the held-out students"),
    # Of the published estimator, in ten bins: see `Reliability`.
    Column("held_out_bins", ARRAY(Double), comment="Answers, right ones and sums of P(right), by P(right)"),
    *(
        Column(f"held_out_{name}_{score}", Double, comment=f"{meaning} of the held-out answers, {what}")
        for name, what in COMPARED.items()
        for score, meaning in SCORES.items()
    ),
    Column("seconds", Double, nullable=False, comment="Duration of the search in seconds"),
    Column("run_id", Text, nullable=False, comment="Dagster run that calibrated it"),
    Column("code_version", Text, nullable=False, comment="Version of bkt_pipeline that calibrated it"),
    Column("stored_at", moment, nullable=False, comment="When it was stored"),
    CheckConstraint(
        "tier IN ('insufficient', 'provisional', 'usable', 'good')", name="skill_fits_tier_known"
    ),
    CheckConstraint("estimator IN ('grid', 'polished', 'pooled')", name="skill_fits_estimator_known"),
    Index("skill_fits_by_skill", "skill_id", "night"),
    comment="The parameters of every night, one row per night and skill",
)


night_skills = Table(
    "night_skills",
    own,
    Column("night", Date, primary_key=True, comment="UTC date of as_of"),
    Column("skill_id", Text, primary_key=True, comment="Skill, as the text of skills.id"),
    Column("as_of", moment, nullable=False, comment="End of the window that was calibrated"),
    Column("outcome", Text, nullable=False, comment="calibrated, skipped, failed, overtaken or rolled_back"),
    Column("reason", Text, comment="Why it was not calibrated, or why its parameters were replaced"),
    Column("attempts", BigInteger, comment="Graded attempts in the window"),
    Column("students", BigInteger, comment="Students with a graded attempt in the window"),
    Column("ungraded", BigInteger, comment="Attempts left out because is_correct is NULL"),
    Column(
        "log_likelihood",
        Double,
        comment="Log-likelihood of the window's answers under the stored parameters, in nats",
    ),
    Column("seconds", Double, comment="Duration of the search in seconds"),
    Column("run_id", Text, nullable=False, comment="Dagster run that had this outcome"),
    Column("recorded_at", moment, nullable=False, comment="When it was recorded"),
    CheckConstraint(
        "outcome IN ('calibrated', 'skipped', 'failed', 'overtaken', 'rolled_back')",
        name="night_skills_outcome_known",
    ),
    Index("night_skills_run_id", "run_id"),
    comment="The ledger: the outcome of each skill in each night",
)


item_irt_params = Table(
    "item_irt_params",
    own,
    Column(
        "skill_id", Text, primary_key=True, comment="Skill that the item practises, as the text of skills.id"
    ),
    Column("item_id", Text, primary_key=True, comment="Item, as the text of items.id"),
    Column("irt_a", Double, comment="Discrimination: how sharply the item separates abilities, per logit"),
    Column(
        "irt_b", Double, comment="Difficulty: the ability at which half of the answers are right, in logits"
    ),
    Column("se_a", Double, comment="Standard error of irt_a; NULL if it cannot be estimated, as at a bound"),
    Column("se_b", Double, comment="Standard error of irt_b; NULL if it cannot be estimated, as at a bound"),
    Column(
        "offset_d",
        Double,
        comment="Offset: how much easier the item is than the skill's parameters predict, in logits; NULL if unknown",
    ),
    Column("se_d", Double, comment="Standard error of offset_d"),
    Column("n_attempts", BigInteger, nullable=False, comment="Graded attempts at the item in the window"),
    Column(
        "log_likelihood", Double, comment="Log-likelihood of these attempts under irt_a and irt_b, in nats"
    ),
    Column("status", Text, nullable=False, comment="calibrated, provisional, skipped or invalid"),
    Column(
        "flags", ARRAY(Text), nullable=False, comment="Names of cautions to know before using the numbers"
    ),
    Column("as_of", moment, nullable=False, comment="End of the window"),
    Column("run_id", Text, nullable=False, comment="Dagster run that stored the row"),
    Column("calibrated_at", moment, comment="When it was calibrated; NULL if it never was"),
    CheckConstraint(
        "status IN ('calibrated', 'provisional', 'skipped', 'invalid')", name="item_irt_params_status_known"
    ),
    comment="The two-parameter logistic model and the offset of each item; a night that cannot fit the first keeps the "
    "older row that has it",
)


night_items = Table(
    "night_items",
    own,
    Column("night", Date, primary_key=True, comment="UTC date of as_of"),
    Column("skill_id", Text, primary_key=True, comment="Skill, as the text of skills.id"),
    Column("as_of", moment, nullable=False, comment="End of the window that was read"),
    Column("outcome", Text, nullable=False, comment="calibrated, skipped, failed or overtaken"),
    Column("reason", Text, comment="Why its items were skipped, failed or overtaken"),
    Column("calibrated", Integer, nullable=False, comment="Items with 200 attempts or more"),
    Column("provisional", Integer, nullable=False, comment="Items with 50 to 199 attempts"),
    Column("skipped", Integer, nullable=False, comment="Items with fewer than 50 attempts"),
    Column("invalid", Integer, nullable=False, comment="Items with an invalid theta or response"),
    Column("attempts", BigInteger, nullable=False, comment="Graded attempts at all of these items"),
    Column(
        "log_likelihood", Double, comment="Log-likelihood of the attempts at the calibrated items, in nats"
    ),
    Column(
        "moments",
        ARRAY(Double, as_tuple=True),
        comment="What the items teach the 2PL's prior: how many, then sums of log a, b, log a log a, log a b, b b",
    ),
    Column("held_out_answers", BigInteger, comment="Answers held out to compare the item models, if any"),
    *(
        Column(f"held_out_{name}", Double, comment=f"Log-likelihood per held-out answer, in nats, {what}")
        for name, what in COMPARED_ITEMS.items()
    ),
    Column("run_id", Text, nullable=False, comment="Dagster run that had this outcome"),
    Column("recorded_at", moment, nullable=False, comment="When it was recorded"),
    CheckConstraint(
        "outcome IN ('calibrated', 'skipped', 'failed', 'overtaken')", name="night_items_outcome_known"
    ),
    Index("night_items_by_skill", "skill_id", "night"),
    Index("night_items_run_id", "run_id"),
    comment="The ledger of the items: the outcome of each skill's items in each night",
)
