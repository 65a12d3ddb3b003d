"""Keep rehearsed nights apart from the nights that published."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, like in (("rehearsed_fits", "skill_fits"), ("rehearsed_skills", "night_skills")):
        op.execute(f"CREATE TABLE bkt_pipeline.{name} (LIKE bkt_pipeline.{like})")
        op.create_primary_key(f"{name}_pkey", name, ["as_of", "skill_id"], schema="bkt_pipeline")
