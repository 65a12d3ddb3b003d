"""The checks of `calibration` as Dagster asset checks, evaluated for each partition."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import dagster as dg

from bkt_pipeline.calibration.check import Check, Finding
from bkt_pipeline.calibration.item_checks import ITEM_CHECKS
from bkt_pipeline.calibration.night_checks import NIGHT_CHECKS
from bkt_pipeline.calibration.skill_checks import SKILL_CHECKS
from bkt_pipeline.calibration.window_checks import WINDOW_CHECKS
from bkt_pipeline.defs.partitions import skill_partitions
from bkt_pipeline.defs.private import AssetCheckEvaluation, AssetCheckEvaluationTargetMaterializationData
from bkt_pipeline.instance.event_log import batched_events

Findings = Mapping[str, Sequence[Finding]]


def specs(
    asset: str, checks: Iterable[Check], partitions: dg.PartitionsDefinition | None = skill_partitions
) -> list[dg.AssetCheckSpec]:
    """The specs that declare one asset's checks to Dagster."""
    return [
        dg.AssetCheckSpec(check.name, asset=asset, partitions_def=partitions, description=check.description)
        for check in checks
    ]


attempt_window_checks = specs("attempt_window", WINDOW_CHECKS)
skill_bkt_params_checks = specs("skill_bkt_params", SKILL_CHECKS)
item_irt_params_checks = specs("item_irt_params", ITEM_CHECKS)
nightly_summary_checks = specs("nightly_summary", NIGHT_CHECKS, None)


def evaluations(
    context: dg.AssetExecutionContext,
    specs: Iterable[dg.AssetCheckSpec],
    findings: Findings,
    materialised: Collection[str],
) -> Iterator[AssetCheckEvaluation | dg.Output[None]]:
    """Evaluate the checks of each skill in `findings`, then close the checks' outputs.

    The findings of a skill that is not in `materialised` point at no materialisation.
    """
    storage_ids = context.instance.get_latest_storage_id_by_partition(
        context.asset_key, dg.DagsterEventType.ASSET_MATERIALIZATION, set(materialised)
    )
    descriptions = {spec.name: spec.description for spec in specs}
    with batched_events(context.instance, context.run.run_id):
        for key, found in findings.items():
            target = _target(context, storage_ids[key]) if key in storage_ids else None
            for finding in found:
                yield _evaluation(context.asset_key, key, finding, descriptions.get(finding.name), target)
    for spec in specs:
        yield dg.Output(None, output_name=f"{context.asset_key.to_python_identifier()}_{spec.name}")


def as_check_result(finding: Finding, specs: Iterable[dg.AssetCheckSpec]) -> dg.AssetCheckResult:
    """A finding on an asset without partitions."""
    return dg.AssetCheckResult(
        check_name=finding.name,
        passed=finding.passed,
        severity=_severity(finding),
        description=next(spec.description for spec in specs if spec.name == finding.name),
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
) -> AssetCheckEvaluation:
    return AssetCheckEvaluation(
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
