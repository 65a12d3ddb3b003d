"""The compiled loops, and the only modules that import numba.

They take and return arrays. Everything with a meaning of its own (windows, parameters, fits) belongs in `model/bkt`
or `model/irt`.
"""
