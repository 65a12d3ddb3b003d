"""From a window to a verdict: which skills are calibrated, skipped or failed, and which checks pass.

Pure functions of numbers: no Dagster, no SQL. The mathematics is in `model`, storage is in `db`, and what Dagster
shows is in `defs`.
"""
