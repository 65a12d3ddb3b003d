"""Whether the embedded server takes the place of a URL that is not set."""

from bkt_pipeline.embedded.home import home
from bkt_pipeline.embedded.server import ensure
from bkt_pipeline.errors import EmbeddedPostgresError
from bkt_pipeline.settings import settings


def embedded_url_for(variable: str, database: str) -> str:
    """The URL of `database` on the embedded server, for a `variable` that is not set.

    Raises
    ------
    EmbeddedPostgresError
        The server cannot run here; or this is a task on ECS, which would calibrate the synthetic school and
        lose what it stored.
    """
    if settings().ecs_metadata_uri:
        raise EmbeddedPostgresError(
            f"{variable} is not set in this ECS task; name it among the secrets of the task definition, as "
            "deploy/aws/README.md says"
        )
    return ensure(home(), database=database)
