"""Key item parameters by skill and item, because an item that practises two skills has parameters in each."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint("item_irt_params_pkey", "item_irt_params", schema="bkt_pipeline", type_="primary")
    op.create_primary_key(
        "item_irt_params_pkey", "item_irt_params", ["skill_id", "item_id"], schema="bkt_pipeline"
    )
    # The key begins with the skill, so an index on the skill alone adds nothing.
    op.drop_index("item_irt_params_skill_id", "item_irt_params", schema="bkt_pipeline")
