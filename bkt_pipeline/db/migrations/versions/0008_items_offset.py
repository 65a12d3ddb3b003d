"""Each item has an offset; each night keeps what its items teach about the prior, and how well each item model predicts."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("offset_d", "se_d"):
        op.add_column("item_irt_params", sa.Column(name, sa.Double()), schema="bkt_pipeline")
    columns = [
        sa.Column("moments", sa.ARRAY(sa.Double())),
        sa.Column("held_out_answers", sa.BigInteger()),
        *(sa.Column(f"held_out_{name}", sa.Double()) for name in ("bkt", "success_rate", "two_pl", "offset")),
    ]
    for column in columns:
        op.add_column("night_items", column, schema="bkt_pipeline")
    op.create_index("night_items_by_skill", "night_items", ["skill_id", "night"], schema="bkt_pipeline")
