"""What must hold of a calibration. A check is named for what is true when it is green; thresholds are named constants."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

# The one private import: the UI shows a check under a partition only when its evaluation points at
# that partition's materialisation, and a run over a range has no public way to say so.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationTargetMaterializationData,
)

from bkt_pipeline.calibration import Verdict
from bkt_pipeline.partitions import skill_partitions

SKILL_HAS_ENOUGH_ATTEMPTS = "skill_has_enough_attempts"

skill_bkt_params_checks = [
    dg.AssetCheckSpec(
        SKILL_HAS_ENOUGH_ATTEMPTS,
        asset="skill_bkt_params",
        partitions_def=skill_partitions,
        description="The window held enough graded attempts to calibrate the skill; else the older row stands.",
    )
]


def evaluations(
    context: dg.AssetExecutionContext, verdicts: Iterable[Verdict], min_attempts: int
) -> Iterator[AssetCheckEvaluation | dg.Output[None]]:
    """Evaluate the checks of each materialised partition, then close the checks' outputs."""
    by_key = {verdict.skill_id: verdict for verdict in verdicts}
    materialised = context.instance.get_latest_storage_id_by_partition(
        context.asset_key, dg.DagsterEventType.ASSET_MATERIALIZATION, set(by_key)
    )
    for key, verdict in by_key.items():
        attempts = verdict.window.n_attempts if verdict.window else 0
        yield _evaluation(
            context,
            SKILL_HAS_ENOUGH_ATTEMPTS,
            key,
            materialised[key],
            passed=verdict.outcome != "skipped",
            metadata={"attempts": attempts, "min_attempts": min_attempts},
        )
    yield dg.Output(None, output_name=f"skill_bkt_params_{SKILL_HAS_ENOUGH_ATTEMPTS}")


def _evaluation(
    context: dg.AssetExecutionContext,
    name: str,
    partition: str,
    storage_id: int,
    *,
    passed: bool,
    metadata: Mapping[str, Any],
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN,
) -> AssetCheckEvaluation:
    return AssetCheckEvaluation(
        asset_key=context.asset_key,
        check_name=name,
        passed=passed,
        metadata=metadata,
        target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
            storage_id=storage_id, run_id=context.run.run_id, timestamp=time.time()
        ),
        severity=severity,
        blocking=False,
        partition=partition,
    )
