"""Decides whether the embedded server is used if a URL is not set, and whether the user asked for that."""

import os
from collections.abc import Collection

from bkt_pipeline.embedded import libpq
from bkt_pipeline.embedded.home import configured_platform, home
from bkt_pipeline.embedded.server import ensure
from bkt_pipeline.errors import EmbeddedPostgresError, InvalidSettings
from bkt_pipeline.settings import settings

DEMO = "BKT_DEMO"


def embedded_platform_url(database: str, known: Collection[str]) -> str:
    """The URL of the demo's `database`, used instead of a platform's.

    Raises
    ------
    InvalidSettings
        The demo was not requested, so this process would calibrate the synthetic school as if it were a platform.
    EmbeddedPostgresError
        The server cannot run here.
    """
    # On ECS, `embedded_url_for` raises an error that names the task definition.
    if not settings().ecs_metadata_uri and not settings().demo:
        raise InvalidSettings(_not_configured())
    return embedded_url_for("DATABASE_URL", database, known)


def embedded_url_for(variable: str, database: str, known: Collection[str]) -> str:
    """The URL of `database` on the embedded server, for a `variable` that is not set.

    `known` are the connection parameters that the driver's libpq knows.

    Raises
    ------
    EmbeddedPostgresError
        The server cannot run here, or this is a task on ECS, which would lose its data.
    """
    configured = settings()
    if configured.ecs_metadata_uri:
        raise EmbeddedPostgresError(
            f"{variable} is not set in this ECS task; name it among the secrets of the task definition, as "
            "deploy/aws/README.md says"
        )
    libpq.unset_variables(service=not (configured.database_url or configured.dagster_postgres_url))
    return libpq.with_newer_parameters(ensure(home(), database=database), known)


def choose_demo_without_platform() -> None:
    """Set BKT_DEMO for this process and its children if no platform was ever used on this machine.

    Only for commands, which a user starts. A daemon or web server uses the demo only if it is set explicitly.
    """
    configured = settings()
    if configured.database_url is None and configured.demo is None and configured_platform() is None:
        os.environ["BKT_DEMO"] = "1"


def _not_configured() -> str:
    way_out = "set DATABASE_URL to the platform's URL, or BKT_DEMO=1 to use the embedded database"
    platform = configured_platform()
    if platform is None:
        return f"DATABASE_URL is not set: {way_out}"
    return f"DATABASE_URL is not set, and this machine has used the platform {platform}: {way_out}"
