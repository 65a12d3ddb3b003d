"""Create the schema bkt_pipeline."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attempt_window",
        sa.Column("skill_id", sa.Text(), nullable=False, comment="Skill, as the text of skills.id"),
        sa.Column(
            "student_id", sa.Text(), nullable=False, comment="Student, as the text of attempts.student_id"
        ),
        sa.Column("answers", sa.Text(), nullable=False, comment="Graded answers in order: 1 right, 0 wrong"),
        sa.Column(
            "answered_at",
            sa.ARRAY(postgresql.TIMESTAMP(timezone=True)),
            nullable=False,
            comment="created_at of each answer, same order",
        ),
        sa.PrimaryKeyConstraint("skill_id", "student_id"),
        schema="bkt_pipeline",
        comment="The last window's graded attempts, one row a skill and student",
    )
    op.create_table(
        "attempt_windows",
        sa.Column("skill_id", sa.Text(), nullable=False, comment="Skill, as the text of skills.id"),
        sa.Column(
            "as_of",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="End of the window, included",
        ),
        sa.Column("window_days", sa.Integer(), nullable=False, comment="Length of the window in days"),
        sa.Column("attempts", sa.BigInteger(), nullable=False, comment="Graded attempts in the window"),
        sa.Column(
            "students",
            sa.BigInteger(),
            nullable=False,
            comment="Students with a graded attempt in the window",
        ),
        sa.Column(
            "ungraded",
            sa.BigInteger(),
            nullable=False,
            comment="Attempts left out because is_correct is NULL",
        ),
        sa.Column("run_id", sa.Text(), nullable=False, comment="Dagster run that stored the window"),
        sa.Column(
            "stored_at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="When it was stored"
        ),
        sa.PrimaryKeyConstraint("skill_id"),
        schema="bkt_pipeline",
        comment="The window that each skill was last read with, one row a skill",
    )
    op.create_table(
        "night_skills",
        sa.Column("night", sa.Date(), nullable=False, comment="UTC date of as_of"),
        sa.Column("skill_id", sa.Text(), nullable=False, comment="Skill, as the text of skills.id"),
        sa.Column(
            "as_of",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="End of the window that was calibrated",
        ),
        sa.Column("outcome", sa.Text(), nullable=False, comment="calibrated, skipped, failed or overtaken"),
        sa.Column("reason", sa.Text(), nullable=True, comment="Why it was skipped, failed or overtaken"),
        sa.Column("attempts", sa.BigInteger(), nullable=True, comment="Graded attempts in the window"),
        sa.Column(
            "students", sa.BigInteger(), nullable=True, comment="Students with a graded attempt in the window"
        ),
        sa.Column(
            "ungraded", sa.BigInteger(), nullable=True, comment="Attempts left out because is_correct is NULL"
        ),
        sa.Column(
            "log_likelihood",
            sa.Double(),
            nullable=True,
            comment="Of the stored parameters over the window, in nats",
        ),
        sa.Column("seconds", sa.Double(), nullable=True, comment="Seconds the search took"),
        sa.Column("run_id", sa.Text(), nullable=False, comment="Dagster run that had this outcome"),
        sa.Column(
            "recorded_at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="When it was recorded"
        ),
        sa.CheckConstraint(
            "outcome IN ('calibrated', 'skipped', 'failed', 'overtaken')", name="night_skills_outcome_known"
        ),
        sa.PrimaryKeyConstraint("night", "skill_id"),
        schema="bkt_pipeline",
        comment="The ledger: what became of each skill in each night",
    )
    op.create_index("night_skills_run_id", "night_skills", ["run_id"], unique=False, schema="bkt_pipeline")
    op.create_table(
        "published_params",
        sa.Column("skill_id", sa.Text(), nullable=False, comment="Skill, as the text of skills.id"),
        sa.Column(
            "as_of",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="as_of of the calibration that skill_bkt_params shows",
        ),
        sa.Column("run_id", sa.Text(), nullable=False, comment="Dagster run that published it"),
        sa.PrimaryKeyConstraint("skill_id"),
        schema="bkt_pipeline",
        comment="Which calibration the row in skill_bkt_params comes from; an older one never replaces it",
    )
    op.create_table(
        "skill_fits",
        sa.Column("night", sa.Date(), nullable=False, comment="UTC date of as_of"),
        sa.Column("skill_id", sa.Text(), nullable=False, comment="Skill, as the text of skills.id"),
        sa.Column(
            "as_of",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="End of the window that was calibrated",
        ),
        sa.Column(
            "p_l0",
            sa.Double(),
            nullable=False,
            comment="P(known before the first attempt), the prior, as published to skill_bkt_params",
        ),
        sa.Column(
            "p_transit",
            sa.Double(),
            nullable=False,
            comment="P(unknown becomes known) after each attempt, as published to skill_bkt_params",
        ),
        sa.Column(
            "p_slip",
            sa.Double(),
            nullable=False,
            comment="P(wrong | known), as published to skill_bkt_params",
        ),
        sa.Column(
            "p_guess",
            sa.Double(),
            nullable=False,
            comment="P(right | unknown), as published to skill_bkt_params",
        ),
        sa.Column(
            "log_likelihood",
            sa.Double(),
            nullable=True,
            comment="Of the window's answers under these parameters, as published to skill_bkt_params, in nats",
        ),
        sa.Column(
            "grid_p_l0",
            sa.Double(),
            nullable=False,
            comment="P(known before the first attempt), the prior, at the best point of the grid",
        ),
        sa.Column(
            "grid_p_transit",
            sa.Double(),
            nullable=False,
            comment="P(unknown becomes known) after each attempt, at the best point of the grid",
        ),
        sa.Column(
            "grid_p_slip",
            sa.Double(),
            nullable=False,
            comment="P(wrong | known), at the best point of the grid",
        ),
        sa.Column(
            "grid_p_guess",
            sa.Double(),
            nullable=False,
            comment="P(right | unknown), at the best point of the grid",
        ),
        sa.Column(
            "grid_log_likelihood",
            sa.Double(),
            nullable=True,
            comment="Of the window's answers under these parameters, at the best point of the grid, in nats",
        ),
        sa.Column(
            "polished_p_l0",
            sa.Double(),
            nullable=True,
            comment="P(known before the first attempt), the prior, at the continuous optimum",
        ),
        sa.Column(
            "polished_p_transit",
            sa.Double(),
            nullable=True,
            comment="P(unknown becomes known) after each attempt, at the continuous optimum",
        ),
        sa.Column(
            "polished_p_slip",
            sa.Double(),
            nullable=True,
            comment="P(wrong | known), at the continuous optimum",
        ),
        sa.Column(
            "polished_p_guess",
            sa.Double(),
            nullable=True,
            comment="P(right | unknown), at the continuous optimum",
        ),
        sa.Column(
            "polished_log_likelihood",
            sa.Double(),
            nullable=True,
            comment="Of the window's answers under these parameters, at the continuous optimum, in nats",
        ),
        sa.Column("attempts", sa.BigInteger(), nullable=False, comment="Graded attempts in the window"),
        sa.Column(
            "students",
            sa.BigInteger(),
            nullable=False,
            comment="Students with a graded attempt in the window",
        ),
        sa.Column(
            "distinct_sequences",
            sa.BigInteger(),
            nullable=False,
            comment="Different answer sequences among them",
        ),
        sa.Column(
            "ungraded",
            sa.BigInteger(),
            nullable=False,
            comment="Attempts left out because is_correct is NULL",
        ),
        sa.Column(
            "tier",
            sa.Text(),
            nullable=False,
            comment="By students: insufficient, provisional, usable or good",
        ),
        sa.Column(
            "flags", sa.ARRAY(sa.Text()), nullable=False, comment="What the answers cannot tell, by name"
        ),
        sa.Column(
            "answers_to_mastery",
            sa.Integer(),
            nullable=True,
            comment="Right answers in a row to P(known) 0.95; NULL: never",
        ),
        sa.Column(
            "share_with_three",
            sa.Double(),
            nullable=False,
            comment="Share of students with 3 or more attempts",
        ),
        sa.Column("p_l0_mean", sa.Double(), nullable=True, comment="p_l0: mean of the posterior"),
        sa.Column("p_l0_sd", sa.Double(), nullable=True, comment="p_l0: standard deviation of the posterior"),
        sa.Column("p_l0_low", sa.Double(), nullable=True, comment="p_l0: lower end of its 95% interval"),
        sa.Column("p_l0_high", sa.Double(), nullable=True, comment="p_l0: upper end of its 95% interval"),
        sa.Column(
            "p_l0_profile_low",
            sa.Double(),
            nullable=True,
            comment="p_l0: lowest value within 1.92 nats of the optimum",
        ),
        sa.Column(
            "p_l0_profile_high",
            sa.Double(),
            nullable=True,
            comment="p_l0: highest value within 1.92 nats of the optimum",
        ),
        sa.Column("p_transit_mean", sa.Double(), nullable=True, comment="p_transit: mean of the posterior"),
        sa.Column(
            "p_transit_sd",
            sa.Double(),
            nullable=True,
            comment="p_transit: standard deviation of the posterior",
        ),
        sa.Column(
            "p_transit_low", sa.Double(), nullable=True, comment="p_transit: lower end of its 95% interval"
        ),
        sa.Column(
            "p_transit_high", sa.Double(), nullable=True, comment="p_transit: upper end of its 95% interval"
        ),
        sa.Column(
            "p_transit_profile_low",
            sa.Double(),
            nullable=True,
            comment="p_transit: lowest value within 1.92 nats of the optimum",
        ),
        sa.Column(
            "p_transit_profile_high",
            sa.Double(),
            nullable=True,
            comment="p_transit: highest value within 1.92 nats of the optimum",
        ),
        sa.Column("p_slip_mean", sa.Double(), nullable=True, comment="p_slip: mean of the posterior"),
        sa.Column(
            "p_slip_sd", sa.Double(), nullable=True, comment="p_slip: standard deviation of the posterior"
        ),
        sa.Column("p_slip_low", sa.Double(), nullable=True, comment="p_slip: lower end of its 95% interval"),
        sa.Column("p_slip_high", sa.Double(), nullable=True, comment="p_slip: upper end of its 95% interval"),
        sa.Column(
            "p_slip_profile_low",
            sa.Double(),
            nullable=True,
            comment="p_slip: lowest value within 1.92 nats of the optimum",
        ),
        sa.Column(
            "p_slip_profile_high",
            sa.Double(),
            nullable=True,
            comment="p_slip: highest value within 1.92 nats of the optimum",
        ),
        sa.Column("p_guess_mean", sa.Double(), nullable=True, comment="p_guess: mean of the posterior"),
        sa.Column(
            "p_guess_sd", sa.Double(), nullable=True, comment="p_guess: standard deviation of the posterior"
        ),
        sa.Column(
            "p_guess_low", sa.Double(), nullable=True, comment="p_guess: lower end of its 95% interval"
        ),
        sa.Column(
            "p_guess_high", sa.Double(), nullable=True, comment="p_guess: upper end of its 95% interval"
        ),
        sa.Column(
            "p_guess_profile_low",
            sa.Double(),
            nullable=True,
            comment="p_guess: lowest value within 1.92 nats of the optimum",
        ),
        sa.Column(
            "p_guess_profile_high",
            sa.Double(),
            nullable=True,
            comment="p_guess: highest value within 1.92 nats of the optimum",
        ),
        sa.Column(
            "gap",
            sa.Double(),
            nullable=True,
            comment="Nats from the best point of the grid to the second best; 0 for a tie",
        ),
        sa.Column(
            "points_close",
            sa.Integer(),
            nullable=True,
            comment="Points of the grid within 1.92 nats of the best",
        ),
        sa.Column("estimator", sa.Text(), nullable=False, comment="What is published: grid or polished"),
        sa.Column("seconds", sa.Double(), nullable=False, comment="Seconds the search took"),
        sa.Column("run_id", sa.Text(), nullable=False, comment="Dagster run that calibrated it"),
        sa.Column(
            "code_version", sa.Text(), nullable=False, comment="Version of bkt_pipeline that calibrated it"
        ),
        sa.Column(
            "stored_at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="When it was stored"
        ),
        sa.CheckConstraint("estimator IN ('grid', 'polished')", name="skill_fits_estimator_known"),
        sa.CheckConstraint(
            "tier IN ('insufficient', 'provisional', 'usable', 'good')", name="skill_fits_tier_known"
        ),
        sa.PrimaryKeyConstraint("night", "skill_id"),
        schema="bkt_pipeline",
        comment="The parameters of every night, one row a night and skill",
    )
