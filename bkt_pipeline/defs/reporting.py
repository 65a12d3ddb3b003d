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
from bkt_pipeline.calibration.outcome import RUN_OUTCOMES, Outcome
from bkt_pipeline.calibration.skills import SkillVerdict
from bkt_pipeline.db.isolation import shown_key
from bkt_pipeline.defs.checks import evaluated, evaluations
from bkt_pipeline.defs.private import NO_MATERIALISATION
from bkt_pipeline.defs.red_checks import RedChecks
from bkt_pipeline.instance.event_log import batched_events

V = TypeVar("V", SkillVerdict, ItemsVerdict)
FAILED_SKILLS = "failed"  # in the metadata of a run's failure that only some of its skills caused
MOST_LINES = 20  # about a run's progress in its log
SHOWN_FAILURES = 5  # skills in the failure's message; its metadata lists all


class Report(Generic[V]):
    """Reports the verdicts of a run batch by batch, each batch after it was stored.

    A rehearsal publishes nothing, so its report only counts.

    Parameters
    ----------
    context
        The context of the asset.
    checks
        The asset's checks.
    metadata
        The metadata of a verdict's materialisation.
    total
        How many skills the run is for.
    what
        Names the skills in the failure's message.
    low_data_event
        The name of the event in the log for a skipped skill.
    rehearsal
        Whether the run is a rehearsal.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        checks: Sequence[Check],
        metadata: Callable[[V], Mapping[str, Any]],
        *,
        total: int,
        what: str,
        low_data_event: str,
        rehearsal: bool,
    ) -> None:
        self.context, self.checks, self.total = context, checks, total
        self.metadata: Callable[[V], Mapping[str, Any]] = metadata
        self.what, self.low_data_event, self.rehearsal = what, low_data_event, rehearsal
        self.red = RedChecks()
        self.counts: Counter[Outcome] = Counter()
        self.failed: dict[str, str] = {}
        self.next_line = total / MOST_LINES

    def batch(self, verdicts: Sequence[V]) -> Iterator[Any]:
        """Report the verdicts: materialisations, then checks. A failed skill gets no materialisation."""
        self.counts.update(verdict.outcome for verdict in verdicts)
        self.failed |= {v.skill_id: v.reason or "" for v in verdicts if v.outcome is Outcome.FAILED}
        self._log_progress()
        if self.rehearsal:
            return
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

    def end(self) -> Iterator[Any]:
        """Close the report. If skills failed, the run fails."""
        if self.rehearsal:
            self.context.log.info("rehearsed, nothing was published: %s", self._became())
        self.red.note(self.context)
        yield from evaluated(self.context, self.checks)
        if self.failed:
            raise failed_skills(self.what, self.failed)
        yield unmaterialised_output({})

    def _log_progress(self) -> None:
        """Log how far the run is, at most `MOST_LINES` times."""
        done = self.counts.total()
        if done >= self.next_line or done == self.total:
            self.next_line = done + self.total / MOST_LINES
            self.context.log.info("%s of %s skills: %s", f"{done:,}", f"{self.total:,}", self._became())

    def _became(self) -> str:
        return ", ".join(
            f"{self.counts[outcome]:,} {outcome}" for outcome in RUN_OUTCOMES if self.counts[outcome]
        )


def materialisations(
    context: dg.AssetExecutionContext, skills: Iterable[tuple[str, Mapping[str, Any]]]
) -> Iterator[dg.AssetMaterialization]:
    """A materialisation for each skill, with its own metadata."""
    asset = context.asset_key
    with batched_events(context.instance, context.run.run_id) as batch:
        for key, metadata in skills:
            materialisation = dg.AssetMaterialization(asset, partition=key, metadata=metadata)
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
