"""Item calibration on the ability scale.

The students' knowledge comes from `model/bkt`; the compiled loops are in `model/kernels`.
"""
