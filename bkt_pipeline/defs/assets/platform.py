"""The platform's own tables, which begin the lineage."""

import dagster as dg

from bkt_pipeline.db.platform import SOURCE_COMMENTS
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.metadata.tables import platform_table

_DESCRIPTIONS = {
    "skills": "The platform's skills. The active ones are calibrated.",
    "items": "The platform's items; each practises one skill.",
    "attempts": "The platform's attempts: which student answered which item, when, and whether the answer was right.",
}


def platform_tables(installation: Installation) -> list[dg.AssetSpec]:
    """The tables that the installation reads."""
    return [
        dg.AssetSpec(
            installation.key(name),
            description=description,
            group_name=installation.group_name or "platform",
            kinds={"postgres"},
            owners=["team:platform"],
            metadata=platform_table(name, SOURCE_COMMENTS[name]),
        )
        for name, description in _DESCRIPTIONS.items()
    ]
