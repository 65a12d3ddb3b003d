"""Names without a public equivalent in Dagster: the only module that imports Dagster's private modules."""

from contextlib import AbstractContextManager
from typing import Any

import dagster as dg

# A check is shown under a partition only when its evaluation points at that partition's materialisation, and a
# run over a range has no public way to say so.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

# Marks an output as materialising nothing. Without it, a run over a range would mark every partition as
# materialised, including the failed ones, all with the same numbers.
from dagster._core.definitions.source_asset import (
    SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION as NO_MATERIALISATION,
)

# A run of the command `nightly` is created in this process, so it has no origin, and without one the UI shows it
# neither on the timeline nor under its job. These classes name an origin.
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

__all__ = [
    "NO_MATERIALISATION",
    "AssetCheckEvaluationTargetMaterializationData",
    "note_origin",
    "open_workspace",
]

LOCATION, REPOSITORY = "bkt_pipeline", "__repository__"  # as `bkt-pipeline ui` and workspace.yaml name them


def note_origin(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Record that the run is of a job of our code location, for the UI."""
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), REPOSITORY)
    instance.run_storage.replace_job_origin(run, RemoteJobOrigin(repository, run.job_name))


def open_workspace(
    instance: dg.DagsterInstance, workspace_yaml: str, version: str
) -> AbstractContextManager[Any]:
    """The code locations of a workspace.yaml, each in a separate process, for an app of `dagster_webserver.app`.

    That module needs a workspace context, which has no public name. The command `dagster-webserver` listens only on
    TCP, where every account and every web page can reach it, so we build the app ourselves to put a guard before it.
    """
    # Imported here because every run imports this module, and these imports take 0.2 s.
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget

    target = WorkspaceFileTarget([workspace_yaml])
    return WorkspaceProcessContext(instance, target, version=version, code_server_log_level="WARNING")
