"""The checks of `calibration` as Dagster asset checks, evaluated for each partition."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import dagster as dg

from bkt_pipeline.calibration.check import Check, Finding
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.private import AssetCheckEvaluationTargetMaterializationData
from bkt_pipeline.instance.event_log import batched_events

Findings = Mapping[str, Sequence[Finding]]


def check_specs(
    installation: Installation, asset: str, checks: Iterable[Check], *, partitioned: bool = True
) -> list[dg.AssetCheckSpec]:
    """The specs that declare one asset's checks to Dagster."""
    return [
        dg.AssetCheckSpec(
            check.name,
            asset=installation.key(asset),
            partitions_def=installation.partitions if partitioned else None,
            description=check.description,
        )
        for check in checks
    ]


def evaluations(
    context: dg.AssetExecutionContext,
    checks: Iterable[Check],
    findings: Findings,
    materialised: Collection[str],
) -> Iterator[dg.AssetCheckEvaluation]:
    """Evaluate the checks of each skill in `findings`.

    The findings of a skill that is not in `materialised` point at no materialisation.
    """
    asset = context.asset_key
    storage_ids = context.instance.get_latest_storage_id_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION, set(materialised)
    )
    descriptions = {check.name: check.description for check in checks}
    with batched_events(context.instance, context.run.run_id) as batch:
        for key, found in findings.items():
            target = _target(context, storage_ids[key]) if key in storage_ids else None
            for finding in found:
                description = descriptions.get(finding.name)
                evaluation = _evaluation(asset, key, finding, description, target)
                if not batch.add(evaluation):
                    yield evaluation


def evaluated(context: dg.AssetExecutionContext, checks: Iterable[Check]) -> Iterator[dg.Output[None]]:
    """The outputs that Dagster expects of the checks, once each, after all evaluations."""
    for check in checks:
        yield dg.Output(None, output_name=f"{context.asset_key.to_python_identifier()}_{check.name}")


def as_check_result(finding: Finding, checks: Iterable[Check]) -> dg.AssetCheckResult:
    """A finding on an asset without partitions."""
    return dg.AssetCheckResult(
        check_name=finding.name,
        passed=finding.passed,
        severity=_severity(finding),
        description=next(check.description for check in checks if check.name == finding.name),
        metadata=dict(finding.numbers),
    )


def _severity(finding: Finding) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.ERROR if finding.error else dg.AssetCheckSeverity.WARN


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
    description: str | None,
    target: AssetCheckEvaluationTargetMaterializationData | None,
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=asset,
        check_name=finding.name,
        passed=finding.passed,
        description=description,
        metadata=finding.numbers,
        target_materialization_data=target,
        severity=_severity(finding),
        blocking=False,
        partition=partition,
    )
