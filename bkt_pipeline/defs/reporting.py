"""How a run over many skills tells Dagster what became of each, and hands its value on.

Dagster takes an asset's output for the word that every partition of the run was materialised, all with the same
metadata. Here each asset says so itself, of each skill that it is true for; and its output, without which Dagster
would skip what comes after it in the same run, says nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

from bkt_pipeline.defs.private import NO_MATERIALISATION
from bkt_pipeline.instance.event_log import batched_events


def materialisations(
    context: dg.AssetExecutionContext, told: Iterable[tuple[str, Mapping[str, Any]]]
) -> Iterator[dg.AssetMaterialization]:
    """One for each skill in `told`, with its own metadata."""
    with batched_events(context.instance, context.run.run_id):
        for key, metadata in told:
            yield dg.AssetMaterialization(context.asset_key, partition=key, metadata=metadata)


def unmaterialised_output(to_store: Mapping[str, Any]) -> dg.Output[Any]:
    """The asset's output, which the IO manager stores and which materialises no partition by itself.

    Empty where the asset has stored each skill on its own.
    """
    return dg.Output(to_store, metadata={NO_MATERIALISATION: True})


def failed_skills(what: str, failed: Mapping[str, str]) -> dg.Failure:
    """The run's failure, which names the skills and why: five of them in its message, all in its metadata."""
    return dg.Failure(
        f"{len(failed)} of {what} failed, the others are stored: "
        + "; ".join(f"{key}: {reason}" for key, reason in list(failed.items())[:5])
        + ("; …" if len(failed) > 5 else ""),
        metadata={"failed": dict(failed)},
        allow_retries=False,
    )
