"""Sums over a lattice of log-likelihoods: the posterior's moments, margins and profiles, in two passes."""

import math

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.kernels.compile import kernel

# A point this far below the best adds less than the precision of a double.
_NOTHING = 45.0

Floats = npt.NDArray[np.float64]


@kernel
def weigh(
    surface: Floats,
    nodes: Floats,
    cells: Floats,
    mean: Floats,
    precision: Floats,
    height: Floats,
    profile: Floats,
    margin: Floats,
    first: Floats,
    second: Floats,
) -> None:
    """Fill height, profile, margin, first and second for a posterior on a product lattice.

    surface (n, n, n, n) holds log-likelihoods; nodes and cells (4, most) hold the logits of each axis and the width that
    each logit represents. height receives the log-posterior without its constant; profile and margin (4, most) receive
    its maximum and the share of its mass at each node; first (4,) and second (4, 4) its mean and covariance.
    """
    best = -math.inf
    for axis in range(4):
        first[axis] = 0.0
        for i in range(profile.shape[1]):
            profile[axis, i] = -math.inf
            margin[axis, i] = 0.0
        for other in range(4):
            second[axis, other] = 0.0
    n0, n1, n2, n3 = surface.shape
    d = np.empty(4)
    for i in range(n0):
        d[0] = nodes[0, i] - mean[0]
        for j in range(n1):
            d[1] = nodes[1, j] - mean[1]
            q01 = (
                precision[0, 0] * d[0] * d[0]
                + precision[1, 1] * d[1] * d[1]
                + 2.0 * precision[0, 1] * d[0] * d[1]
            )
            l2 = 2.0 * (precision[0, 2] * d[0] + precision[1, 2] * d[1])
            l3 = 2.0 * (precision[0, 3] * d[0] + precision[1, 3] * d[1])
            top = -math.inf
            for k in range(n2):
                d[2] = nodes[2, k] - mean[2]
                q2 = q01 + d[2] * (l2 + precision[2, 2] * d[2])
                s3 = l3 + 2.0 * precision[2, 3] * d[2]
                across = -math.inf
                for m in range(n3):
                    d[3] = nodes[3, m] - mean[3]
                    value = surface[i, j, k, m] - 0.5 * (q2 + d[3] * (s3 + precision[3, 3] * d[3]))
                    height[i, j, k, m] = value
                    across = max(across, value)
                    profile[3, m] = max(profile[3, m], value)
                profile[2, k] = max(profile[2, k], across)
                top = max(top, across)
            profile[1, j] = max(profile[1, j], top)
            profile[0, i] = max(profile[0, i], top)
            best = max(best, top)
    total = 0.0
    for i in range(n0):
        for j in range(n1):
            for k in range(n2):
                outer = cells[0, i] * cells[1, j] * cells[2, k]
                mass = 0.0
                mass3 = 0.0
                for m in range(n3):
                    below = height[i, j, k, m] - best
                    if below > -_NOTHING:
                        weight = outer * cells[3, m] * math.exp(below)
                        mass += weight
                        mass3 += weight * nodes[3, m]
                        margin[3, m] += weight
                margin[0, i] += mass
                margin[1, j] += mass
                margin[2, k] += mass
                second[0, 1] += mass * nodes[0, i] * nodes[1, j]
                second[0, 2] += mass * nodes[0, i] * nodes[2, k]
                second[1, 2] += mass * nodes[1, j] * nodes[2, k]
                second[0, 3] += mass3 * nodes[0, i]
                second[1, 3] += mass3 * nodes[1, j]
                second[2, 3] += mass3 * nodes[2, k]
                total += mass
    for axis in range(4):
        for i in range(surface.shape[axis]):
            margin[axis, i] /= total
            first[axis] += margin[axis, i] * nodes[axis, i]
            second[axis, axis] += margin[axis, i] * nodes[axis, i] * nodes[axis, i]
        second[axis, axis] -= first[axis] * first[axis]
    for axis in range(4):
        for other in range(axis):
            second[other, axis] = second[other, axis] / total - first[axis] * first[other]
            second[axis, other] = second[other, axis]
