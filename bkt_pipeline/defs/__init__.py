"""The Dagster definitions: assets, checks, jobs, schedules, sensors and resources.

Asset bodies are a few lines over `calibration`, `db` and `windows`. `definitions.py` assembles them.
"""
