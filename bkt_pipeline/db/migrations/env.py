"""Alembic's entry point: runs the migrations on the connection from `migrate`."""

from alembic import context

from bkt_pipeline.db.schema import SCHEMA, own

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=own,
    version_table_schema=SCHEMA,
    include_schemas=True,
    include_name=lambda name, kind, _: kind != "schema" or name == SCHEMA,
)
context.run_migrations()
