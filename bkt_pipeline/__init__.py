"""Nightly calibration of Bayesian Knowledge Tracing parameters as a Dagster asset graph."""

__version__ = "0.1.0"
