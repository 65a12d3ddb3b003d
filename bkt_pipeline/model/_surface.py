"""The log-likelihood at every point of a grid, all of it in one compiled pass.

Without forgetting, the probability of a sequence is linear in the prior:

    P = p_l0 A + (1 - p_l0) B

A: the student knew from the start; B: did not. Both come from running backwards over the answers, with a for
"known now" and b for "unknown now", from a = b = 1 behind the last answer:

    a <- e_known a
    b <- e_unknown ((1 - p_transit) b + p_transit a)

e_known is (1 - slip) for a right answer and slip for a wrong one, e_unknown is guess and (1 - guess). So the
recursion runs once for each (transit, slip, guess) and not for each point, and a pattern of several answers
is one linear map (a, b) -> (K a, U b + C a) whose K, U and C stand in a small table.

The terms of four students are multiplied as a polynomial in (p_l0, 1 - p_l0), all of whose coefficients are
positive, so that nothing cancels; products are kept as mantissa and binary exponent, and the only logarithm
is one per point at the very end. A sequence that c students share goes into the products of the binary digits
of c, which are squared together last: counts cost no logarithm either.
"""

import math

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model._compile import inlined, kernel
from bkt_pipeline.model._trie import EMIT, RESCALE, STEP

# Pairs of (slip, guess) worked on side by side; a multiple of every SIMD width. 99 pairs fill one tile.
TILE = 104
GROUP = 4
_MANTISSA = np.int64((1 << 52) - 1)
_ONE = np.int64(1023 << 52)
_LN2 = math.log(2.0)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@inlined
def _tables(
    transit: Floats, slip: Floats, guess: Floats, known: Floats, unknown: Floats, learned: Floats
) -> None:
    """Fill K, U and C of every pattern of up to STEP answers."""
    for m in range(TILE):
        known[1, m] = 1.0
        unknown[1, m] = 1.0
        learned[1, m] = 0.0
    for code in range(2, known.shape[0]):
        before = code >> 1
        for m in range(TILE):
            e_known = 1.0 - slip[m] if code & 1 else slip[m]
            e_unknown = guess[m] if code & 1 else 1.0 - guess[m]
            known[code, m] = known[before, m] * e_known
            unknown[code, m] = unknown[before, m] * e_unknown * (1.0 - transit[m])
            learned[code, m] = e_unknown * (
                (1.0 - transit[m]) * learned[before, m] + transit[m] * known[before, m]
            )


@inlined
def _step(
    code: int, slot: int, known: Floats, unknown: Floats, learned: Floats, a: Floats, b: Floats, ratio: Floats
) -> None:
    for m in range(TILE):
        b[slot, m] = unknown[code, m] * b[slot, m] + learned[code, m] * (a[slot, m] * ratio[slot, m])
        a[slot, m] *= known[code, m]


@inlined
def _copy(slot: int, to: int, a: Floats, b: Floats, ratio: Floats, ea: Ints, eb: Ints) -> None:
    for m in range(TILE):
        a[to, m] = a[slot, m]
        b[to, m] = b[slot, m]
        ratio[to, m] = ratio[slot, m]
        ea[to, m] = ea[slot, m]
        eb[to, m] = eb[slot, m]


@inlined
def _rescale(slot: int, a: Ints, b: Ints, ratio: Ints, ea: Ints, eb: Ints) -> None:
    """Move the exponents of a state's two masses out, each into its own, so that neither is ever lost.

    a, b and ratio are the bits of the doubles. Beyond 2**±1000 the smaller mass adds nothing until the next
    time.
    """
    for m in range(TILE):
        ea[slot, m] += (a[slot, m] >> 52) - 1023
        eb[slot, m] += (b[slot, m] >> 52) - 1023
        a[slot, m] = (a[slot, m] & _MANTISSA) | _ONE
        b[slot, m] = (b[slot, m] & _MANTISSA) | _ONE
        ratio[slot, m] = (min(max(ea[slot, m] - eb[slot, m], -1000), 1000) + 1023) << 52


@inlined
def _emit(
    slot: int, a: Ints, b: Ints, ea: Ints, eb: Ints, count: int, base: Ints, scale_a: Ints, scale_b: Ints
) -> None:
    """A finished sequence: by which powers its masses are scaled so that the larger one is in [1, 2).

    a, b and the scales are the bits of the doubles. The exponent taken out is remembered `count` times.
    """
    for m in range(TILE):
        top = max(ea[slot, m] + (a[slot, m] >> 52), eb[slot, m] + (b[slot, m] >> 52)) - 1023
        base[m] += count * top
        scale_a[m] = (max(ea[slot, m] - top, -1022) + 1023) << 52
        scale_b[m] = (max(eb[slot, m] - top, -1022) + 1023) << 52


@inlined
def _wait(
    slot: int,
    a: Floats,
    b: Floats,
    scale_a: Floats,
    scale_b: Floats,
    plane: int,
    at: int,
    wait_a: Floats,
    wait_b: Floats,
) -> None:
    for m in range(TILE):
        wait_a[plane, at, m] = a[slot, m] * scale_a[m]
        wait_b[plane, at, m] = b[slot, m] * scale_b[m]


@inlined
def _multiply(plane: int, wait_a: Floats, wait_b: Floats, odds: Floats, c: Floats, product: Floats) -> None:
    """Multiply the four terms that wait into the products of every prior."""
    for m in range(TILE):
        x0 = wait_b[plane, 0, m] * wait_b[plane, 1, m]
        x1 = wait_b[plane, 0, m] * wait_a[plane, 1, m] + wait_a[plane, 0, m] * wait_b[plane, 1, m]
        x2 = wait_a[plane, 0, m] * wait_a[plane, 1, m]
        y0 = wait_b[plane, 2, m] * wait_b[plane, 3, m]
        y1 = wait_b[plane, 2, m] * wait_a[plane, 3, m] + wait_a[plane, 2, m] * wait_b[plane, 3, m]
        y2 = wait_a[plane, 2, m] * wait_a[plane, 3, m]
        c[0, m] = x0 * y0
        c[1, m] = x0 * y1 + x1 * y0
        c[2, m] = x0 * y2 + x1 * y1 + x2 * y0
        c[3, m] = x1 * y2 + x2 * y1
        c[4, m] = x2 * y2
    for p in range(odds.shape[0]):
        for m in range(TILE):
            x = odds[p, m]
            product[plane, p, m] *= c[0, m] + x * (c[1, m] + x * (c[2, m] + x * (c[3, m] + x * c[4, m])))


@inlined
def _normalise(plane: int, product: Ints, exponent: Ints) -> None:
    """Move the binary exponents of the products (given as bits) into `exponent`, leaving [1, 2)."""
    for p in range(product.shape[1]):
        for m in range(TILE):
            exponent[plane, p, m] += (product[plane, p, m] >> 52) - 1023
            product[plane, p, m] = (product[plane, p, m] & _MANTISSA) | _ONE


@inlined
def _begin(
    first: Ints,
    waiting: Ints,
    wait_a: Floats,
    wait_b: Floats,
    product: Floats,
    exponent: Ints,
    state_a: Floats,
    state_b: Floats,
    ratio: Floats,
    ea: Ints,
    eb: Ints,
    base: Ints,
) -> None:
    """Before the first operation: empty products, and the state behind the last answer in slot 0."""
    for plane in range(first.size):
        waiting[plane] = first[plane]
        for at in range(first[plane]):
            for m in range(TILE):
                wait_a[plane, at, m] = 0.0
                wait_b[plane, at, m] = 1.0
        for p in range(product.shape[1]):
            for m in range(TILE):
                product[plane, p, m] = 1.0
                exponent[plane, p, m] = 0
    for m in range(TILE):
        base[m] = 0
        state_a[0, m] = 1.0
        state_b[0, m] = 1.0
        ratio[0, m] = 1.0
        ea[0, m] = 0
        eb[0, m] = 0


@inlined
def _join(
    plane: int, product: Floats, exponent: Ints, total: Floats, bits_total: Ints, total_exponent: Ints
) -> None:
    """total**2 * product: each binary digit of the counts is worth twice the one below it."""
    for p in range(product.shape[1]):
        for m in range(TILE):
            total[p, m] *= total[p, m] * product[plane, p, m]
            total_exponent[p, m] = (
                2 * total_exponent[p, m] + exponent[plane, p, m] + (bits_total[p, m] >> 52) - 1023
            )
            bits_total[p, m] = (bits_total[p, m] & _MANTISSA) | _ONE


@kernel
def surface(
    program: npt.NDArray[np.int32],
    slots: int,
    first: Ints,
    patience: int,
    odds: Floats,
    lanes: Floats,
) -> Floats:
    """Log-likelihood, less n_students log(1 - p_l0), for many values of p_l0 on each of many lanes.

    Parameters
    ----------
    program : int32 (n_operations, 3), slots : int
        From `_trie.compose`.
    first : int64 (n_planes,)
        For each binary digit of the counts, how many ones fill up the groups of terms.
    patience : int
        So many groups of GROUP terms can be multiplied before their product might leave the doubles.
    odds : float64 (n_prior, n_lanes)
        p_l0 / (1 - p_l0).
    lanes : float64 (n_lanes, 3)
        p_transit, p_slip and p_guess.

    Returns
    -------
    float64 (n_prior, n_lanes)
    """
    planes = first.size
    n_prior, n_lanes = odds.shape
    out = np.empty((n_prior, n_lanes))
    tile_odds = np.empty((n_prior, TILE))
    patterns = 2 << STEP
    known = np.empty((patterns, TILE))
    unknown = np.empty((patterns, TILE))
    learned = np.empty((patterns, TILE))
    transit = np.empty(TILE)
    slip = np.empty(TILE)
    guess = np.empty(TILE)
    a = np.empty((slots, TILE))
    b = np.empty((slots, TILE))
    ratio = np.empty((slots, TILE))
    ea = np.empty((slots, TILE), np.int64)
    eb = np.empty((slots, TILE), np.int64)
    base = np.empty(TILE, np.int64)
    scale_a = np.empty(TILE)
    scale_b = np.empty(TILE)
    wait_a = np.empty((planes, GROUP, TILE))
    wait_b = np.empty((planes, GROUP, TILE))
    waiting = np.empty(planes, np.int64)
    groups = np.zeros(planes, np.int64)
    c = np.empty((GROUP + 1, TILE))
    product = np.empty((planes, n_prior, TILE))
    exponent = np.empty((planes, n_prior, TILE), np.int64)
    total = np.empty((n_prior, TILE))
    total_exponent = np.empty((n_prior, TILE), np.int64)
    bits_total = total.view(np.int64)
    bits_a = a.view(np.int64)
    bits_b = b.view(np.int64)
    bits_ratio = ratio.view(np.int64)
    bits_scale_a = scale_a.view(np.int64)
    bits_scale_b = scale_b.view(np.int64)
    bits_product = product.view(np.int64)

    for start in range(0, n_lanes, TILE):
        for m in range(TILE):
            # The last tile is filled up with the last lane.
            lane = min(start + m, n_lanes - 1)
            transit[m] = lanes[lane, 0]
            slip[m] = lanes[lane, 1]
            guess[m] = lanes[lane, 2]
            for p in range(n_prior):
                tile_odds[p, m] = odds[p, lane]
                total[p, m] = 1.0
                total_exponent[p, m] = 0
        _tables(transit, slip, guess, known, unknown, learned)
        _begin(first, waiting, wait_a, wait_b, product, exponent, a, b, ratio, ea, eb, base)
        for i in range(program.shape[0]):
            code = program[i, 0]
            slot = program[i, 1]
            argument = int(program[i, 2])
            if code > EMIT:
                if argument != slot:
                    _copy(slot, argument, a, b, ratio, ea, eb)
                _step(code, argument, known, unknown, learned, a, b, ratio)
            elif code == RESCALE:
                _rescale(slot, bits_a, bits_b, bits_ratio, ea, eb)
            else:
                _emit(slot, bits_a, bits_b, ea, eb, argument, base, bits_scale_a, bits_scale_b)
                for plane in range(planes):
                    if (argument >> plane) & 1:
                        _wait(slot, a, b, scale_a, scale_b, plane, waiting[plane], wait_a, wait_b)
                        waiting[plane] += 1
                        if waiting[plane] == GROUP:
                            _multiply(plane, wait_a, wait_b, tile_odds, c, product)
                            waiting[plane] = 0
                            groups[plane] += 1
                            if groups[plane] == patience:
                                _normalise(plane, bits_product, exponent)
                                groups[plane] = 0
        for plane in range(planes - 1, -1, -1):
            _join(plane, product, exponent, total, bits_total, total_exponent)
        for p in range(n_prior):
            for m in range(min(TILE, n_lanes - start)):
                out[p, start + m] = math.log(total[p, m]) + _LN2 * (total_exponent[p, m] + base[m])
    return out
