"""The error for whatever keeps the embedded server from running."""

from bkt_pipeline.errors import EmbeddedPostgresError


def cannot_run(why: str) -> EmbeddedPostgresError:
    """The error, with the way out."""
    return EmbeddedPostgresError(f"{why}\nTo use a Postgres server of your own, set DATABASE_URL to its URL.")
