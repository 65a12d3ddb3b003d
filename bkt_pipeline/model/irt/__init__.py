"""Item calibration on the ability scale.

The students' knowledge comes from `model/bkt`; compiled loops live in `model/kernels`.
"""
