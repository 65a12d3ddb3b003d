"""The jobs of a night."""

import dagster as dg

active_skills_job = dg.define_asset_job(
    "active_skills_job",
    selection=dg.AssetSelection.assets("active_skills"),
    description="Begins a night: updates the partitions, one per skill, to match the platform's active skills. When it has "
    "succeeded, the sensor start_shards starts the job calibration.",
)


calibration_job = dg.define_asset_job(
    "calibration",
    selection=dg.AssetSelection.assets("attempt_window", "skill_bkt_params"),
    description="Materialises attempt_window and skill_bkt_params: reads the window of each chosen skill and calibrates the "
    "skill. When every skill of a night has an outcome, the sensor nightly_irt starts the job nightly_irt.",
)


nightly_irt_job = dg.define_asset_job(
    "nightly_irt",
    selection=dg.AssetSelection.assets("item_irt_params"),
    description="Materialises item_irt_params: calibrates the items of each chosen skill with the skill's new parameters.",
)


night_summary_job = dg.define_asset_job(
    "night_summary",
    selection=dg.AssetSelection.assets("nightly_summary", "item_summary"),
    description="Ends a night: materialises nightly_summary and item_summary, the pages to read in the morning.",
)
