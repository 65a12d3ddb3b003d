"""From a window to a verdict: who is calibrated, skipped or failed, and which checks hold.

Pure functions of numbers: no Dagster, no SQL. The mathematics is in `model`; storing a verdict is in `db`; what Dagster
shows of it is in `defs`.
"""
