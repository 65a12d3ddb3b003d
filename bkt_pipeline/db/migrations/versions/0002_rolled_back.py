"""Add the outcome rolled_back."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint("night_skills_outcome_known", "night_skills", schema="bkt_pipeline", type_="check")
    op.create_check_constraint(
        "night_skills_outcome_known",
        "night_skills",
        "outcome IN ('calibrated', 'skipped', 'failed', 'overtaken', 'rolled_back')",
        schema="bkt_pipeline",
    )
    op.alter_column(
        "night_skills",
        "outcome",
        existing_type=sa.Text(),
        existing_nullable=False,
        comment="calibrated, skipped, failed, overtaken or rolled_back",
        existing_comment="calibrated, skipped, failed or overtaken",
        schema="bkt_pipeline",
    )
    op.alter_column(
        "night_skills",
        "reason",
        existing_type=sa.Text(),
        existing_nullable=True,
        comment="Why it was not calibrated, or its parameters did not stay",
        existing_comment="Why it was skipped, failed or overtaken",
        schema="bkt_pipeline",
    )
