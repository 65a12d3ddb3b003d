"""Add an index for reading a skill's earlier nights, which would otherwise slow down with every stored night."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("skill_fits_by_skill", "skill_fits", ["skill_id", "night"], schema="bkt_pipeline")
