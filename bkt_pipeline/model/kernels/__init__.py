"""The compiled loops, and the only modules that import numba.

They take and return arrays. Domain types (windows, parameters, fits) belong in `model/bkt` or `model/irt`.
"""
