"""The jobs of a night."""

import dagster as dg

active_skills_job = dg.define_asset_job(
    "active_skills_job",
    selection=dg.AssetSelection.assets("active_skills"),
    description="Updates the partitions, one per skill, to match the platform's active skills.",
)


calibration_job = dg.define_asset_job(
    "calibration",
    selection=dg.AssetSelection.assets("attempt_window", "skill_bkt_params"),
    description="Reads the window of each chosen skill and calibrates the skill.",
)


nightly_irt_job = dg.define_asset_job(
    "nightly_irt",
    selection=dg.AssetSelection.assets("item_irt_params"),
    description="Calibrates the items of each chosen skill with the skill's new parameters.",
)


night_summary_job = dg.define_asset_job(
    "night_summary",
    selection=dg.AssetSelection.assets("nightly_summary", "item_summary"),
    description="Summarises the night: its skills and its items.",
)
