"""Each fit keeps its held-out answers by their prediction, for the reliability of a night."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("skill_fits", "rehearsed_fits"):
        op.add_column(table, sa.Column("held_out_bins", sa.ARRAY(sa.Double())), schema="bkt_pipeline")
