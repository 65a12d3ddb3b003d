"""Knowledge tracing as mathematics: numpy, scipy and numba; knows neither Dagster nor SQL."""
