"""The platform's own tables, which begin the lineage."""

import dagster as dg

from bkt_pipeline.db.platform import SOURCE_COMMENTS
from bkt_pipeline.defs.metadata.tables import platform_table

_DESCRIPTIONS = {
    "skills": "The platform's skills. The active ones are calibrated.",
    "items": "The platform's items; each practises one skill.",
    "attempts": "The platform's attempts: which student answered which item, when, and whether the answer was right.",
}

platform_tables = [
    dg.AssetSpec(
        name,
        description=description,
        group_name="platform",
        kinds={"postgres"},
        owners=["team:platform"],
        metadata=platform_table(name, SOURCE_COMMENTS[name]),
    )
    for name, description in _DESCRIPTIONS.items()
]
