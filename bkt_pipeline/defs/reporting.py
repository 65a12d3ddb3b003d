"""Reports the outcome of each skill to Dagster in a run over many skills.

Dagster takes an asset's output to mean that every partition of the run was materialised, all with the same metadata.
Here an asset instead yields one materialisation for each skill that did not fail. Its output materialises nothing,
but Dagster needs it to run the downstream assets in the same run.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import dagster as dg

from bkt_pipeline.calibration.check import Check
from bkt_pipeline.calibration.items import ItemsVerdict
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.skills import SkillVerdict
from bkt_pipeline.db.isolation import shown_key
from bkt_pipeline.defs.checks import evaluated, evaluations
from bkt_pipeline.defs.private import NO_MATERIALISATION
from bkt_pipeline.defs.red_checks import RedChecks
from bkt_pipeline.instance.event_log import batched_events

V = TypeVar("V", SkillVerdict, ItemsVerdict)
FAILED_SKILLS = "failed"  # in the metadata of a run's failure that only some of its skills caused
SHOWN_FAILURES = 5  # skills in the failure's message; its metadata lists all


class Report(Generic[V]):
    """Reports the verdicts of a run batch by batch, each batch after it was stored.

    Parameters
    ----------
    context
        The context of the asset.
    checks
        The asset's checks.
    metadata
        The metadata of a verdict's materialisation.
    what
        Names the skills in the failure's message.
    low_data_event
        The name of the event in the log for a skipped skill.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        checks: Sequence[Check],
        metadata: Callable[[V], Mapping[str, Any]],
        *,
        what: str,
        low_data_event: str,
    ) -> None:
        self.context, self.checks = context, checks
        self.metadata: Callable[[V], Mapping[str, Any]] = metadata
        self.what, self.low_data_event = what, low_data_event
        self.red = RedChecks()
        self.failed: dict[str, str] = {}

    def batch(self, verdicts: Sequence[V]) -> Iterator[Any]:
        """Report the verdicts: materialisations, then checks. A failed skill gets no materialisation."""
        done = [verdict for verdict in verdicts if verdict.outcome is not Outcome.FAILED]
        for verdict in done:
            if verdict.outcome is Outcome.SKIPPED:
                self.context.log.info(
                    "%s: skill %s, %s", self.low_data_event, shown_key(verdict.skill_id), verdict.reason
                )
        yield from materialisations(
            self.context, ((verdict.skill_id, self.metadata(verdict)) for verdict in done)
        )
        findings = {verdict.skill_id: verdict.findings for verdict in verdicts}
        yield from evaluations(self.context, self.checks, findings, [verdict.skill_id for verdict in done])
        self.red.count(findings)
        self.failed |= {v.skill_id: v.reason or "" for v in verdicts if v.outcome is Outcome.FAILED}

    def end(self) -> Iterator[Any]:
        """Close the report. If skills failed, the run fails."""
        self.red.note(self.context)
        yield from evaluated(self.context, self.checks)
        if self.failed:
            raise failed_skills(self.what, self.failed)
        yield unmaterialised_output({})


def rehearsed(
    context: dg.AssetExecutionContext,
    verdicts: Sequence[V],
    checks: Sequence[Check],
) -> Iterator[Any]:
    """Report a rehearsal: nothing was published, so no partition is materialised and no check evaluated."""
    counts = Counter(str(verdict.outcome) for verdict in verdicts)
    context.log.info("rehearsed, nothing was published: %s", dict(counts))
    yield from evaluated(context, checks)
    failed = {v.skill_id: v.reason or "" for v in verdicts if v.outcome is Outcome.FAILED}
    if failed:
        raise failed_skills("the rehearsed skills", failed)
    yield unmaterialised_output({})


def materialisations(
    context: dg.AssetExecutionContext, skills: Iterable[tuple[str, Mapping[str, Any]]]
) -> Iterator[dg.AssetMaterialization]:
    """A materialisation for each skill, with its own metadata."""
    with batched_events(context.instance, context.run.run_id) as batch:
        for key, metadata in skills:
            materialisation = dg.AssetMaterialization(context.asset_key, partition=key, metadata=metadata)
            if not batch.add(materialisation):
                yield materialisation


def unmaterialised_output(values: Mapping[str, Any]) -> dg.Output[Any]:
    """The asset's output, which the IO manager stores but which materialises no partition.

    It is empty if the asset has already stored each skill.
    """
    return dg.Output(values, metadata={NO_MATERIALISATION: True})


def failed_skills(what: str, failed: Mapping[str, str]) -> dg.Failure:
    """The run's failure with the failed skills and their reasons: the first five in the message, all in the metadata."""
    shown = [f"{shown_key(key)}: {reason}" for key, reason in list(failed.items())[:SHOWN_FAILURES]]
    more = "; …" if len(failed) > SHOWN_FAILURES else ""
    return dg.Failure(
        f"{len(failed)} of {what} failed, the others are stored: {'; '.join(shown)}{more}",
        metadata={FAILED_SKILLS: dict(failed)},
        allow_retries=False,
    )
