"""Reports the outcome of each skill to Dagster in a run over many skills.

Dagster takes an asset's output to mean that every partition of the run was materialised, all with the same metadata.
Here an asset instead yields one materialisation for each skill that did not fail. Its output materialises nothing,
but Dagster needs it to run the downstream assets in the same run.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import dagster as dg

from bkt_pipeline.calibration.check import Check
from bkt_pipeline.calibration.items import ItemsVerdict
from bkt_pipeline.calibration.outcome import RUN_OUTCOMES, Outcome
from bkt_pipeline.calibration.skills import SkillVerdict
from bkt_pipeline.db.isolation import shown_key
from bkt_pipeline.defs.checks import evaluations
from bkt_pipeline.defs.private import NO_MATERIALISATION
from bkt_pipeline.defs.progress import Progress
from bkt_pipeline.instance.event_log import batched_events

V = TypeVar("V", SkillVerdict, ItemsVerdict)
FAILED_SKILLS = "failed"  # in the metadata of a run's failure that only some of its skills caused
MOST_LINES = 20  # about a run's progress in its log
SHOWN_FAILURES = 5  # skills in the failure's message; its metadata lists all


def report(
    context: dg.AssetExecutionContext,
    verdicts: Sequence[V],
    checks: Sequence[Check],
    metadata: Callable[[V], Mapping[str, Any]],
    *,
    what: str,
    low_data_event: str,
    progress: Progress,
) -> Iterator[Any]:
    """Report the verdicts of a run, which are already stored: materialisations, checks, then the failed skills.

    A failed skill gets no materialisation, and the run fails at the end; `what` names the skills in that failure's
    message.
    """
    done = [verdict for verdict in verdicts if verdict.outcome is not Outcome.FAILED]
    for verdict in done:
        if verdict.outcome is Outcome.SKIPPED:
            context.log.info("%s: skill %s, %s", low_data_event, shown_key(verdict.skill_id), verdict.reason)
    tracked = progress.track("reporting", done, len(done))
    yield from materialisations(context, ((verdict.skill_id, metadata(verdict)) for verdict in tracked))
    findings = {verdict.skill_id: verdict.findings for verdict in verdicts}
    yield from evaluations(context, checks, findings, [verdict.skill_id for verdict in done])
    failed = {v.skill_id: v.reason or "" for v in verdicts if v.outcome is Outcome.FAILED}
    if failed:
        raise failed_skills(what, failed)
    yield unmaterialised_output({})


def log_progress(context: dg.AssetExecutionContext, stored: Sequence[V], total: int, batch: int) -> None:
    """Log how far the run is, after a batch of skills was stored: after each, or at most `MOST_LINES` times."""
    done, every = math.ceil(len(stored) / batch), math.ceil(total / batch / MOST_LINES)
    if done % every and len(stored) < total:
        return
    counts = Counter(verdict.outcome for verdict in stored)
    became = ", ".join(f"{counts[outcome]:,} {outcome}" for outcome in RUN_OUTCOMES if counts[outcome])
    context.log.info("%s of %s skills: %s", f"{len(stored):,}", f"{total:,}", became)


def rehearsed(
    context: dg.AssetExecutionContext,
    verdicts: Sequence[V],
    checks: Sequence[Check],
) -> Iterator[Any]:
    """Report a rehearsal: nothing was published, so no partition is materialised and no check evaluated."""
    counts = Counter(str(verdict.outcome) for verdict in verdicts)
    context.log.info("rehearsed, nothing was published: %s", dict(counts))
    yield from evaluations(context, checks, {}, ())
    failed = {v.skill_id: v.reason or "" for v in verdicts if v.outcome is Outcome.FAILED}
    if failed:
        raise failed_skills("the rehearsed skills", failed)
    yield unmaterialised_output({})


def materialisations(
    context: dg.AssetExecutionContext, skills: Iterable[tuple[str, Mapping[str, Any]]]
) -> Iterator[dg.AssetMaterialization]:
    """A materialisation for each skill, with its own metadata."""
    with batched_events(context.instance, context.run.run_id):
        for key, metadata in skills:
            yield dg.AssetMaterialization(context.asset_key, partition=key, metadata=metadata)


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
