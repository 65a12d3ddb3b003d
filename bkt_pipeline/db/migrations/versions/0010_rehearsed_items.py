"""Keep the items of rehearsed nights apart too."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, like, keys in (
        ("rehearsed_items", "night_items", ["as_of", "skill_id"]),
        ("rehearsed_item_params", "item_irt_params", ["as_of", "skill_id", "item_id"]),
    ):
        op.execute(f"CREATE TABLE bkt_pipeline.{name} (LIKE bkt_pipeline.{like})")
        op.create_primary_key(f"{name}_pkey", name, keys, schema="bkt_pipeline")
