"""The error for any reason why the embedded server cannot run."""

from bkt_pipeline.errors import EmbeddedPostgresError


def cannot_run(why: str) -> EmbeddedPostgresError:
    """The error, with the alternative."""
    return EmbeddedPostgresError(f"{why}\nTo use a Postgres server of your own, set DATABASE_URL to its URL.")
