"""Bayesian Knowledge Tracing: grid, likelihood, exact search, uncertainty, prediction.

The compiled loops are in `model/kernels`, the item models in `model/irt`.
"""
