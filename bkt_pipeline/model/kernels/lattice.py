"""Sums over a lattice of log-likelihoods: the posterior's moments, margins and profiles, in two passes."""

import math

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.kernels.compile import inlined, kernel

# A point this far below the best adds less than the precision of a double.
_NOTHING = 45.0

_LN2_HIGH = 0.693147180369123816490  # its product with a small integer is exact
_LN2_LOW = 1.90821492927058770002e-10
# Adding a number to this one rounds it to an integer, which is then in the lowest bits.
_ROUND = 1.5 * 2.0**52
_ROUND_BITS = np.int64(0x4338000000000000)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@inlined
def _exponentials(values: Floats, best: float, powers: Floats, bits: Ints) -> None:
    """Replace each value by exp(value - best), for several at once; 0 if it is far below.

    powers and bits are one workspace as numbers and as integers, of the same size. exp(v) = 2**k exp(r), where k is the
    integer nearest to v / log 2, and exp(r) is a Taylor series.
    """
    for i in range(values.size):
        values[i] = max(values[i] - best, -_NOTHING)
        powers[i] = values[i] * (1.0 / (_LN2_HIGH + _LN2_LOW)) + _ROUND
    for i in range(values.size):
        k = powers[i] - _ROUND
        r = (values[i] - k * _LN2_HIGH) - k * _LN2_LOW
        rest = 1.0 / 39916800.0 + r * (1.0 / 479001600.0 + r * (1.0 / 6227020800.0))
        rest = 1.0 / 40320.0 + r * (1.0 / 362880.0 + r * (1.0 / 3628800.0 + r * rest))
        rest = 1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0 + r * rest))
        rest = 0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * rest))
        exact = 1.0 + r * (1.0 + r * rest)
        values[i] = exact if values[i] > -_NOTHING else 0.0
    for i in range(values.size):
        bits[i] = (bits[i] - _ROUND_BITS + 1023) << 52
    for i in range(values.size):
        values[i] *= powers[i]


@kernel
def weigh(
    surface: Floats,
    nodes: Floats,
    cells: Floats,
    mean: Floats,
    precision: Floats,
    depth: float,
    masses: bool,
    height: Floats,
    powers: Floats,
    bits: Ints,
    profile: Floats,
    reach: Floats,
    margin: Floats,
    first: Floats,
    second: Floats,
) -> None:
    """Fill height, profile, reach, margin, first and second for a posterior on a product lattice.

    surface (n, n, n, n) holds log-likelihoods; nodes and cells (4, most) hold the logits of each axis and the width that
    each logit represents. height receives the log-posterior without its constant; profile and margin (4, most) receive
    its maximum and the share of its mass at each node; first (4,) and second (4, 4) its mean and covariance. reach (4, 4)
    receives of each axis the first and the last node whose maximum is at most `depth` nats below the highest, and by how
    many nats the maxima at its two ends are. Without `masses`, only height, profile and reach are filled; profile is
    -inf beyond an axis.
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
                    height[i * n1 + j, k * n3 + m] = value
                    across = max(across, value)
                    profile[3, m] = max(profile[3, m], value)
                profile[2, k] = max(profile[2, k], across)
                top = max(top, across)
            profile[1, j] = max(profile[1, j], top)
            profile[0, i] = max(profile[0, i], top)
            best = max(best, top)
    for axis in range(4):
        last = surface.shape[axis] - 1
        begin, end = 0, last
        while best - profile[axis, begin] > depth:
            begin += 1
        while best - profile[axis, end] > depth:
            end -= 1
        reach[axis, 0] = nodes[axis, begin]
        reach[axis, 1] = nodes[axis, end]
        reach[axis, 2] = best - profile[axis, 0]
        reach[axis, 3] = best - profile[axis, last]
    if not masses:
        return
    total = 0.0
    for i in range(n0):
        for j in range(n1):
            row = height[i * n1 + j]
            _exponentials(row, best, powers, bits)
            for k in range(n2):
                outer = cells[0, i] * cells[1, j] * cells[2, k]
                mass = 0.0
                mass3 = 0.0
                for m in range(n3):
                    weight = outer * cells[3, m] * row[k * n3 + m]
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
