"""Record where a window's sequences begin, as part of what identifies the window."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "attempt_windows",
        sa.Column(
            "sequences",
            sa.Text(),
            nullable=False,
            server_default="window",
            comment="Where each sequence begins: window, or from_first_answer, which may be before the window",
        ),
        schema="bkt_pipeline",
    )
