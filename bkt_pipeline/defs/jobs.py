"""The jobs of a night."""

from typing import Any

import dagster as dg

from bkt_pipeline.defs.installation import Installation

ACTIVE_SKILLS_JOB = "active_skills_job"
CALIBRATION_JOB = "calibration"
ITEMS_JOB = "nightly_irt"
SUMMARY_JOB = "summaries"

_JOBS = {
    ACTIVE_SKILLS_JOB: (
        ["active_skills"],
        "Begins a night: updates the partitions, one per skill, to match the platform's active skills. When it has "
        "succeeded, the sensor start_shards starts the job calibration.",
    ),
    CALIBRATION_JOB: (
        ["attempt_window", "skill_bkt_params"],
        "Materialises attempt_window and skill_bkt_params: reads the window of each chosen skill and calibrates the "
        "skill. When every skill of a night has an outcome, the sensor nightly_irt starts the job nightly_irt.",
    ),
    ITEMS_JOB: (
        ["item_irt_params"],
        "Materialises item_irt_params: calibrates the items of each chosen skill with the skill's new parameters.",
    ),
    SUMMARY_JOB: (
        ["nightly_summary", "item_summary"],
        "Ends a night: materialises nightly_summary and item_summary, the pages to read in the morning.",
    ),
}


def night_jobs(installation: Installation) -> dict[str, Any]:
    """The jobs of the installation's nights, by their name without its prefix.

    They run in one process, whatever executor the code location has: a night's work is threads in compiled code.
    """
    return {
        name: dg.define_asset_job(
            installation.name(name),
            selection=dg.AssetSelection.assets(*map(installation.key, assets)),
            description=description,
            tags=installation.tags,
            executor_def=dg.in_process_executor,
        )
        for name, (assets, description) in _JOBS.items()
    }
