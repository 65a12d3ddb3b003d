"""Which checks of skills are red after a night, from the evaluations that its runs left in Dagster's storage."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import dagster as dg

from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.night_state import runs_of_night

RED_CHECKS = "red_checks"  # the name in the summary's metadata
_PAGE = 1000


def red_checks(
    instance: dg.DagsterInstance, installation: Installation, night: Mapping[str, str]
) -> dict[str, int]:
    """For each check that fails with the severity error: how many skills, from the latest evaluation of each."""
    latest: dict[tuple[str, str | None], bool] = {}
    # The oldest run first, so that a retry replaces what it repeats.
    for run in reversed(runs_of_night(instance, installation, night)):
        cursor, more = None, True
        while more:
            page = instance.get_records_for_run(
                run.run_id, cursor, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION, limit=_PAGE
            )
            cursor, more = page.cursor, page.has_more
            for record in page.records:
                event = record.event_log_entry.dagster_event
                if event is None:
                    continue
                found: Any = event.event_specific_data
                name = f"{found.check_name} of {found.asset_key.to_user_string()}"
                red = not found.passed and found.severity is dg.AssetCheckSeverity.ERROR
                latest[name, found.partition] = red
    return dict(sorted(Counter(name for (name, _), red in latest.items() if red).items()))


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
