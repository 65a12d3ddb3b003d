"""Which checks of skills are red after a night. Each run counts its own in its tags, where the night's summary finds them."""

import json
from collections import Counter
from collections.abc import Mapping

import dagster as dg

from bkt_pipeline.defs.checks import Findings
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.night_state import runs_of_night
from bkt_pipeline.defs.tags import RED_TAG

RED_CHECKS = "red_checks"  # the name in the summary's metadata


class RedChecks:
    """Counts the checks of one asset in a run that fail with the severity error."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, findings: Findings) -> None:
        """Count those among the findings of some skills."""
        self.counts.update(
            finding.name
            for found in findings.values()
            for finding in found
            if finding.error and not finding.passed
        )

    def note(self, context: dg.AssetExecutionContext) -> None:
        """Tag the run with the checks, and with the number of skills of each."""
        if self.counts:
            asset = context.asset_key.to_user_string()
            counts = {f"{name} of {asset}": count for name, count in self.counts.items()}
            tag = f"{RED_TAG}_{context.asset_key.path[-1]}"
            context.instance.add_run_tags(context.run.run_id, {tag: json.dumps(counts)})


def red_checks(
    instance: dg.DagsterInstance, installation: Installation, night: Mapping[str, str]
) -> dict[str, int]:
    """For each check that fails with the severity error: how many skills. A retry replaces the run that it repeats."""
    runs = runs_of_night(instance, installation, night)
    repeated = {run.parent_run_id for run in runs}
    found: Counter[str] = Counter()
    for run in runs:
        if run.run_id not in repeated:
            for tag, counts in run.tags.items():
                if tag.startswith(f"{RED_TAG}_"):
                    found.update(json.loads(counts))
    return dict(sorted(found.items()))


def red_before(instance: dg.DagsterInstance, installation: Installation, night: str) -> dict[str, int]:
    """The red checks of the latest summary of an earlier night."""
    for record in instance.fetch_materializations(installation.key("nightly_summary"), limit=10).records:
        materialisation = record.asset_materialization
        shown = (
            {name: value.value for name, value in materialisation.metadata.items()} if materialisation else {}
        )
        if RED_CHECKS in shown and str(shown.get("night", night)) < night:
            found = shown[RED_CHECKS]
            return dict(found) if isinstance(found, dict) else {}
    return {}
