"""Add the item parameters and the ledger of their nights."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_moment = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "item_irt_params",
        sa.Column("item_id", sa.Text(), nullable=False, comment="Item, as the text of items.id"),
        sa.Column(
            "skill_id",
            sa.Text(),
            nullable=False,
            comment="Skill that the item practises, as the text of skills.id",
        ),
        sa.Column(
            "irt_a",
            sa.Double(),
            nullable=True,
            comment="Discrimination, how sharply the item tells abilities apart, per logit",
        ),
        sa.Column(
            "irt_b",
            sa.Double(),
            nullable=True,
            comment="Difficulty, the ability at which half the answers are right, in logits",
        ),
        sa.Column(
            "se_a",
            sa.Double(),
            nullable=True,
            comment="Standard error of irt_a; NULL: none, it is at its bound",
        ),
        sa.Column(
            "se_b",
            sa.Double(),
            nullable=True,
            comment="Standard error of irt_b; NULL: none, it is at its bound",
        ),
        sa.Column(
            "n_attempts",
            sa.BigInteger(),
            nullable=False,
            comment="Graded attempts at the item in the window",
        ),
        sa.Column(
            "log_likelihood",
            sa.Double(),
            nullable=True,
            comment="Of these attempts under irt_a and irt_b, in nats",
        ),
        sa.Column("status", sa.Text(), nullable=False, comment="calibrated, provisional, skipped or invalid"),
        sa.Column(
            "flags",
            sa.ARRAY(sa.Text()),
            nullable=False,
            comment="What to know before the numbers are used, by name",
        ),
        sa.Column("as_of", _moment, nullable=False, comment="End of the window"),
        sa.Column("run_id", sa.Text(), nullable=False, comment="Dagster run that stored the row"),
        sa.Column(
            "calibrated_at", _moment, nullable=True, comment="When it was calibrated; NULL: it never was"
        ),
        sa.CheckConstraint(
            "status IN ('calibrated', 'provisional', 'skipped', 'invalid')",
            name="item_irt_params_status_known",
        ),
        sa.PrimaryKeyConstraint("item_id"),
        schema="bkt_pipeline",
        comment="Each item's two-parameter logistic model; a night that cannot calibrate it leaves the older row",
    )
    op.create_index("item_irt_params_skill_id", "item_irt_params", ["skill_id"], schema="bkt_pipeline")
    op.create_table(
        "night_items",
        sa.Column("night", sa.Date(), nullable=False, comment="UTC date of as_of"),
        sa.Column("skill_id", sa.Text(), nullable=False, comment="Skill, as the text of skills.id"),
        sa.Column("as_of", _moment, nullable=False, comment="End of the window that was read"),
        sa.Column("outcome", sa.Text(), nullable=False, comment="calibrated, skipped, failed or overtaken"),
        sa.Column(
            "reason", sa.Text(), nullable=True, comment="Why its items were skipped, failed or overtaken"
        ),
        sa.Column("calibrated", sa.Integer(), nullable=False, comment="Items with 200 attempts or more"),
        sa.Column("provisional", sa.Integer(), nullable=False, comment="Items with 50 to 199 attempts"),
        sa.Column("skipped", sa.Integer(), nullable=False, comment="Items with fewer than 50 attempts"),
        sa.Column(
            "invalid",
            sa.Integer(),
            nullable=False,
            comment="Items with a theta or an answer that is none",
        ),
        sa.Column("attempts", sa.BigInteger(), nullable=False, comment="Graded attempts at all of them"),
        sa.Column(
            "log_likelihood",
            sa.Double(),
            nullable=True,
            comment="Of those of the items that were calibrated, in nats",
        ),
        sa.Column("run_id", sa.Text(), nullable=False, comment="Dagster run that had this outcome"),
        sa.Column("recorded_at", _moment, nullable=False, comment="When it was recorded"),
        sa.CheckConstraint(
            "outcome IN ('calibrated', 'skipped', 'failed', 'overtaken')", name="night_items_outcome_known"
        ),
        sa.PrimaryKeyConstraint("night", "skill_id"),
        schema="bkt_pipeline",
        comment="The ledger of the items: what became of each skill's items in each night",
    )
    op.create_index("night_items_run_id", "night_items", ["run_id"], schema="bkt_pipeline")
