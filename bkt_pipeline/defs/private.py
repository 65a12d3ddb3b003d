"""Names without a public equivalent in Dagster: the only module that imports Dagster's private modules."""

# Dagster shows a check under a partition only if its evaluation points at that partition's materialisation.
# For a run over a range there is no public way to set that.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationTargetMaterializationData,
)

# Marks an output as materialising nothing. Without it, a run over a range would mark every partition as
# materialised, including the failed ones, all with the same numbers.
from dagster._core.definitions.source_asset import (
    SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION as NO_MATERIALISATION,
)

__all__ = ["NO_MATERIALISATION", "AssetCheckEvaluation", "AssetCheckEvaluationTargetMaterializationData"]
