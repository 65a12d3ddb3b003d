"""Names without a public equivalent in Dagster: the only module that imports Dagster's private modules."""

from contextlib import AbstractContextManager
from typing import Any

import dagster as dg

# A check is shown under a partition only when its evaluation points at that partition's materialisation, and a
# run over a range has no public way to say so.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationTargetMaterializationData,
)

# Marks an output as materialising nothing. Without it, a run over a range would mark every partition as
# materialised, including the failed ones, all with the same numbers.
from dagster._core.definitions.source_asset import (
    SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION as NO_MATERIALISATION,
)

__all__ = [
    "NO_MATERIALISATION",
    "AssetCheckEvaluation",
    "AssetCheckEvaluationTargetMaterializationData",
    "open_workspace",
]


def open_workspace(
    instance: dg.DagsterInstance, workspace_yaml: str, version: str
) -> AbstractContextManager[Any]:
    """The code locations of a workspace.yaml, each in a process of its own, for an app of `dagster_webserver.app`.

    That module needs it and has no public name for it. The command `dagster-webserver` listens on TCP only, where
    every account and every web page reaches it, so the app must be made here to put a guard before it.
    """
    # A run imports this module too, and would pay 0.2 s for them at its start.
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget

    target = WorkspaceFileTarget([workspace_yaml])
    return WorkspaceProcessContext(instance, target, version=version, code_server_log_level="WARNING")
