"""The rules of verification.py as Dagster's asset checks, evaluated partition by partition."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import dagster as dg

from bkt_pipeline.calibration.rules import CALIBRATION_RULES, WINDOW_RULES, Rule
from bkt_pipeline.calibration.skill_checks import Finding
from bkt_pipeline.defs.partitions import skill_partitions
from bkt_pipeline.defs.private import AssetCheckEvaluation, AssetCheckEvaluationTargetMaterializationData
from bkt_pipeline.instance.event_log import batched_events

Findings = Mapping[str, Sequence[Finding]]


def specs(asset: str, rules: Mapping[str, Rule]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=asset, partitions_def=skill_partitions, description=rule.description)
        for name, rule in rules.items()
    ]


attempt_window_checks = specs("attempt_window", WINDOW_RULES)
skill_bkt_params_checks = specs("skill_bkt_params", CALIBRATION_RULES)


def evaluations(
    context: dg.AssetExecutionContext,
    specs: Iterable[dg.AssetCheckSpec],
    findings: Findings,
    materialised: Collection[str],
) -> Iterator[AssetCheckEvaluation | dg.Output[None]]:
    """Evaluate the checks of each skill in `findings`, then close the checks' outputs.

    A skill that is not `materialised` in this run has its findings without a materialisation to point at.
    """
    storage_ids = context.instance.get_latest_storage_id_by_partition(
        context.asset_key, dg.DagsterEventType.ASSET_MATERIALIZATION, set(materialised)
    )
    with batched_events(context.instance, context.run.run_id):
        for key, found in findings.items():
            target = _target(context, storage_ids[key]) if key in storage_ids else None
            for finding in found:
                yield _evaluation(context.asset_key, key, finding, target)
    for spec in specs:
        yield dg.Output(None, output_name=f"{context.asset_key.to_python_identifier()}_{spec.name}")


def _target(
    context: dg.AssetExecutionContext, storage_id: int
) -> AssetCheckEvaluationTargetMaterializationData:
    return AssetCheckEvaluationTargetMaterializationData(
        storage_id=storage_id, run_id=context.run.run_id, timestamp=time.time()
    )


def _evaluation(
    asset: dg.AssetKey,
    partition: str,
    finding: Finding,
    target: AssetCheckEvaluationTargetMaterializationData | None,
) -> AssetCheckEvaluation:
    return AssetCheckEvaluation(
        asset_key=asset,
        check_name=finding.name,
        passed=finding.passed,
        metadata=finding.numbers,
        target_materialization_data=target,
        severity=dg.AssetCheckSeverity.ERROR if finding.error else dg.AssetCheckSeverity.WARN,
        blocking=False,
        partition=partition,
    )
