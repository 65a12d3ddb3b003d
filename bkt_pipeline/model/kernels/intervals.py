"""Intervals of single parameters: from the density of their logits, and from profiles of the log-likelihood."""

import math

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.kernels.compile import inlined, kernel

# Each cell of the lattice is divided into this many pieces to interpolate the density.
PIECES = 16
# A log-density further below the highest counts as this.
_NOTHING = -60.0

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@kernel
def _interpolated(x: float, xs: Floats, ys: Floats, left: float, right: float) -> float:
    """The value at x on the line through points whose xs rise; left or right before the first or after the last."""
    if x < xs[0]:
        return left
    if x > xs[-1]:
        return right
    low, high = 0, xs.size
    while low < high:
        middle = (low + high) // 2
        if x >= xs[middle]:
            low = middle + 1
        else:
            high = middle
    at = low - 1
    if xs[at] == x:
        return float(ys[at])
    slope = (ys[at + 1] - ys[at]) / (xs[at + 1] - xs[at])
    return float(slope * (x - xs[at]) + ys[at])


@kernel
def density_intervals(
    nodes: Floats,
    cells: Floats,
    margins: Floats,
    sizes: Ints,
    least: Floats,
    most: Floats,
    share: float,
    weights: Floats,
    middles: Floats,
    ends: Floats,
) -> None:
    """Fill weights, middles and ends for the densities of the four logits.

    nodes, cells and margins (4, most) are as in `lattice.weigh`, and sizes (4,) the number of nodes. weights and middles
    (4, PIECES (most - 1)) receive the mass and the mean probability of each piece of an axis, and are left as they are
    beyond it. ends (4, 2) receives the interval that holds `share` of the mass, with as much on both sides of it, unless
    it must be moved or widened to contain the logits least and most (4,).
    """
    height = np.empty(nodes.shape[1] + 1)
    for k in range(4):
        last = sizes[k] - 1
        n = PIECES * last
        density, logit, below, probability = (
            np.empty(n + 1),
            np.empty(n + 1),
            np.empty(n + 1),
            np.empty(n + 1),
        )
        top = 0.0
        for i in range(last + 1):
            height[i] = margins[k, i] / cells[k, i]
            top = max(top, height[i])
        for i in range(last + 1):
            height[i] = math.log(max(height[i] / top, math.exp(_NOTHING)))
        height[last + 1] = 0.0
        step = (nodes[k, last] - nodes[k, 0]) / n
        # Between two nodes, the log of a density is nearly linear, and the error is about the same in every cell.
        for i in range(n + 1):
            cell = i // PIECES
            rise = height[cell + 1] - height[cell]
            density[i] = math.exp(height[cell] + rise * ((i % PIECES) / PIECES))
            logit[i] = i * step + nodes[k, 0]
            probability[i] = 1.0 / (1.0 + math.exp(-logit[i]))
        below[0] = 0.0
        total = 0.0
        for i in range(n):
            weights[k, i] = (density[i + 1] + density[i]) / 2.0
            middles[k, i] = (probability[i + 1] + probability[i]) / 2.0
            total += weights[k, i]
            below[i + 1] = total
        for i in range(n):
            weights[k, i] /= total
            below[i + 1] /= total
        below_least = _interpolated(least[k], logit, below, 0.0, 1.0)
        below_most = _interpolated(most[k], logit, below, 0.0, 1.0)
        # The share below the lower end: half of the rest, or whatever is needed to contain both values.
        left_out = min(max((1.0 - share) / 2.0, below_most - share), below_least)
        lowest, highest = probability[0], probability[n]
        ends[k, 0] = _interpolated(left_out, below, probability, lowest, highest)
        right = max(left_out + share, below_most)
        ends[k, 1] = _interpolated(right, below, probability, lowest, highest)


@kernel
def profiles(surface: Floats, best: Floats) -> None:
    """Fill best (4, most) with the highest value of surface (n, n, n, n) at each index of each axis."""
    best[:, :] = -math.inf
    n0, n1, n2, n3 = surface.shape
    for i in range(n0):
        for j in range(n1):
            top = -math.inf
            for k in range(n2):
                across = -math.inf
                for m in range(n3):
                    value = surface[i, j, k, m]
                    across = max(across, value)
                    best[3, m] = max(best[3, m], value)
                best[2, k] = max(best[2, k], across)
                top = max(top, across)
            best[1, j] = max(best[1, j], top)
            best[0, i] = max(best[0, i], top)


@inlined
def _crossing(at: Floats, heights: Floats, n: int, within: int, close: float, outwards: float) -> float:
    """The probability where the heights fall below `close`, between the logit at[within] and the next one outwards."""
    beyond = within
    for i in range(n):
        if (at[i] - at[within]) * outwards > 0.0 and (
            beyond == within or (at[i] - at[beyond]) * outwards < 0.0
        ):
            beyond = i
    value = at[within]
    if beyond != within:
        share = (heights[within] - close) / (heights[within] - heights[beyond])
        value += share * (at[beyond] - at[within])
    return 1.0 / (1.0 + math.exp(-value))


@kernel
def profile_intervals(
    logits: Floats, heights: Floats, offsets: Ints, optimum: Floats, top: float, nats: float, ends: Floats
) -> None:
    """Fill ends (4, 2) with the two points at which the highest of several profiles falls `nats` below the optimum.

    Profile number s of S of parameter k has the log-likelihood heights[i] at the logit logits[i], for i from
    offsets[k S + s] to offsets[k S + s + 1] - 1. The log-likelihood's optimum is `top`, at the logits in optimum (4,);
    if it is not known, top is -inf.
    """
    several = (offsets.size - 1) // 4
    at, best = np.empty(logits.size + 1), np.empty(logits.size + 1)
    for k in range(4):
        first = offsets[k * several]
        n = offsets[(k + 1) * several] - first
        for i in range(n):
            at[i] = logits[first + i]
        if top > -math.inf:
            at[n] = optimum[k]
            n += 1
        highest = -math.inf
        for i in range(n):
            best[i] = top if at[i] == optimum[k] else -math.inf
            for s in range(k * several, (k + 1) * several):
                begin, end = offsets[s], offsets[s + 1]
                one = _interpolated(at[i], logits[begin:end], heights[begin:end], -math.inf, -math.inf)
                best[i] = max(best[i], one)
            highest = max(highest, best[i])
        close = highest - nats
        low = high = -1
        for i in range(n):
            if best[i] >= close:
                low = i if low < 0 or at[i] < at[low] else low
                high = i if high < 0 or at[i] > at[high] else high
        ends[k, 0] = _crossing(at, best, n, low, close, -1.0)
        ends[k, 1] = _crossing(at, best, n, high, close, 1.0)
