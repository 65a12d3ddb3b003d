"""What Dagster has no public name for: the one place that imports its private modules."""

# A check is shown under a partition only when its evaluation points at that partition's materialisation, and a
# run over a range has no public way to say so.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationTargetMaterializationData,
)

# An output that bears it materialises nothing by itself. Without, a run over a range would have every partition
# materialised, those that failed too, all with the same numbers.
from dagster._core.definitions.source_asset import (
    SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION as NO_MATERIALISATION,
)

__all__ = ["NO_MATERIALISATION", "AssetCheckEvaluation", "AssetCheckEvaluationTargetMaterializationData"]
