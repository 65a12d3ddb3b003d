"""What the windows of a night left out or could not know, summed over its skills."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import dagster as dg

from bkt_pipeline.defs.installation import Installation

COUNTED = ("ungraded", "without_student", "repeated_attempts", "answers_of_unknown_order")
NOT_DELIVERED = "message"  # in the summary's metadata, if a receiver did not get the night's message
_PAGE = 1000
_WORDS = {
    "attempts_without_item": "left out because items has no row of their item_id",
    "attempts_without_skill": "left out because their item has no skill",
    "without_student": "left out because they have no student",
    "repeated_attempts": "repeat another one and count as answers",
    "answers_of_unknown_order": "of unknown order",
}


def counted_in_windows(
    instance: dg.DagsterInstance, installation: Installation, as_of: dt.datetime
) -> dict[str, int]:
    """The sums over the windows of the night, from the latest materialisation of each.

    They were counted when the windows were read; counting them again would read all attempts again.
    """
    night = as_of.astimezone(dt.UTC).date()
    # No window is stored before its end.
    since = dg.AssetRecordsFilter(installation.key("attempt_window"), after_timestamp=as_of.timestamp())
    seen: set[str | None] = set()
    sums = dict.fromkeys(COUNTED, 0)
    cursor, more = None, True
    while more:
        page = instance.fetch_materializations(since, limit=_PAGE, cursor=cursor)
        cursor, more = page.cursor, page.has_more
        for record in page.records:
            window = record.asset_materialization
            if window is None or record.partition_key in seen:
                continue
            # A materialisation that a person reported in the UI has no metadata.
            shown = {name: value.value for name, value in window.metadata.items()}
            moment = shown.get("as_of")
            if not isinstance(moment, float) or dt.datetime.fromtimestamp(moment, dt.UTC).date() != night:
                continue
            seen.add(record.partition_key)
            for name in COUNTED:
                value = shown.get(name)
                sums[name] += value if isinstance(value, int) else 0
    return sums


def sentence(counts: Mapping[str, Any]) -> str | None:
    """The counts of a night's summary for a person; None if all are zero."""
    parts = [
        f"{counts[name]:,} {words}"
        for name, words in _WORDS.items()
        if isinstance(counts.get(name), int) and counts[name]
    ]
    return f"Attempts in the window: {', '.join(parts)}; bkt-pipeline doctor explains them" if parts else None


def of_summary(summary: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """The metadata that `nightly_summary` has in the run."""
    found: dict[str, Any] = {}
    for event in summary.get_asset_materialization_events():
        if event.asset_key is not None and event.asset_key.path[-1] == "nightly_summary":
            found |= {name: value.value for name, value in event.materialization.metadata.items()}
    return found
