"""What Dagster sees: assets, checks, jobs, schedules, sensors, resources.

Asset bodies are a few lines over `calibration`, `db` and `windows`. `definitions.py` assembles it.
"""
