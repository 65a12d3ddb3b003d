"""Bayesian Knowledge Tracing: grid, likelihood, exact search, uncertainty, prediction.

Compiled loops live in `model/kernels`; items in `model/irt`.
"""
