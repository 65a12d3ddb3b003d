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
from numba import njit

from bkt_pipeline.model._trie import EMIT, RESCALE, STEP

# Pairs of (slip, guess) worked on side by side; a multiple of every SIMD width. 99 pairs fill one tile.
TILE = 104
GROUP = 4
_MANTISSA = np.int64((1 << 52) - 1)
_ONE = np.int64(1023 << 52)
_LN2 = math.log(2.0)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@njit(cache=True, nogil=True)
def _tables(
    transit: float, slip: Floats, guess: Floats, known: Floats, unknown: Floats, learned: Floats
) -> None:
    """Fill K, U and C of every pattern of up to STEP answers."""
    known[1] = 1.0
    unknown[1] = 1.0
    learned[1] = 0.0
    for code in range(2, known.shape[0]):
        before = code >> 1
        for m in range(TILE):
            e_known = 1.0 - slip[m] if code & 1 else slip[m]
            e_unknown = guess[m] if code & 1 else 1.0 - guess[m]
            known[code, m] = known[before, m] * e_known
            unknown[code, m] = unknown[before, m] * e_unknown * (1.0 - transit)
            learned[code, m] = e_unknown * ((1.0 - transit) * learned[before, m] + transit * known[before, m])


@njit(cache=True, nogil=True, fastmath={"contract"})
def _multiply(a: Floats, b: Floats, weights: Floats, product: Floats) -> None:
    """Multiply four sequences' terms, a and b (4, TILE), into the products (n_prior, TILE)."""
    c = np.empty((5, TILE))
    for m in range(TILE):
        x0 = b[0, m] * b[1, m]
        x1 = b[0, m] * a[1, m] + a[0, m] * b[1, m]
        x2 = a[0, m] * a[1, m]
        y0 = b[2, m] * b[3, m]
        y1 = b[2, m] * a[3, m] + a[2, m] * b[3, m]
        y2 = a[2, m] * a[3, m]
        c[0, m] = x0 * y0
        c[1, m] = x0 * y1 + x1 * y0
        c[2, m] = x0 * y2 + x1 * y1 + x2 * y0
        c[3, m] = x1 * y2 + x2 * y1
        c[4, m] = x2 * y2
    for p in range(weights.shape[0]):
        w0, w1, w2, w3, w4 = weights[p, 0], weights[p, 1], weights[p, 2], weights[p, 3], weights[p, 4]
        for m in range(TILE):
            product[p, m] *= c[0, m] * w0 + c[1, m] * w1 + c[2, m] * w2 + c[3, m] * w3 + c[4, m] * w4


@njit(cache=True, nogil=True)
def _normalise(product: Floats, exponent: Ints) -> None:
    """Move the binary exponents of `product` into `exponent`, leaving mantissas in [1, 2)."""
    bits = product.view(np.int64)
    for p in range(product.shape[0]):
        for m in range(TILE):
            exponent[p, m] += (bits[p, m] >> 52) - 1023
            bits[p, m] = (bits[p, m] & _MANTISSA) | _ONE


@njit(cache=True, nogil=True)
def _power(k: int) -> int:
    """The bits of 2.0**k, k within the normal range."""
    return (k + 1023) << 52


@njit(cache=True, nogil=True)
def _emit(
    a: Floats,
    b: Floats,
    ea: Ints,
    eb: Ints,
    scaled: bool,
    count: int,
    out_a: Floats,
    out_b: Floats,
    base: Ints,
) -> None:
    """One finished sequence: bring its larger mass to [1, 2), remember the exponent `count` times."""
    bits_a = a.view(np.int64)
    bits_b = b.view(np.int64)
    power_a = out_a.view(np.int64)
    power_b = out_b.view(np.int64)
    if scaled:
        for m in range(TILE):
            top = max(ea[m] + (bits_a[m] >> 52), eb[m] + (bits_b[m] >> 52)) - 1023
            power_a[m] = _power(max(ea[m] - top, -1022))
            power_b[m] = _power(max(eb[m] - top, -1022))
            base[m] += count * top
    else:
        for m in range(TILE):
            top = max(bits_a[m], bits_b[m]) >> 52
            power_a[m] = _power(1023 - top)
            power_b[m] = power_a[m]
            base[m] += count * (top - 1023)
    for m in range(TILE):
        out_a[m] *= a[m]
        out_b[m] *= b[m]


@njit(cache=True, nogil=True)
def _rescale(a: Floats, b: Floats, ea: Ints, eb: Ints, ratio: Floats, scaled: bool) -> None:
    """Move the exponents of a state's two masses out, each into its own: neither is ever lost."""
    bits_a = a.view(np.int64)
    bits_b = b.view(np.int64)
    power = ratio.view(np.int64)
    if not scaled:
        ea[:] = 0
        eb[:] = 0
    for m in range(TILE):
        ea[m] += (bits_a[m] >> 52) - 1023
        eb[m] += (bits_b[m] >> 52) - 1023
        bits_a[m] = (bits_a[m] & _MANTISSA) | _ONE
        bits_b[m] = (bits_b[m] & _MANTISSA) | _ONE
        # Beyond 2**±1000 the smaller mass adds nothing until the next rescaling.
        power[m] = _power(min(max(ea[m] - eb[m], -1000), 1000))


@njit(cache=True, nogil=True, fastmath={"contract"})
def _step(k: Floats, u: Floats, c: Floats, a: Floats, b: Floats) -> None:
    for m in range(TILE):
        b[m] = u[m] * b[m] + c[m] * a[m]
        a[m] *= k[m]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _step_scaled(k: Floats, u: Floats, c: Floats, a: Floats, b: Floats, ratio: Floats) -> None:
    for m in range(TILE):
        b[m] = u[m] * b[m] + c[m] * (a[m] * ratio[m])
        a[m] *= k[m]


@njit(cache=True, nogil=True)
def surface(
    program: npt.NDArray[np.int32],
    slots: int,
    planes: int,
    patience: int,
    prior: Floats,
    transit: Floats,
    pairs: Floats,
) -> Floats:
    """Log-likelihood at every point of a grid.

    Parameters
    ----------
    program : int32 (n_operations, 3), slots : int
        From `_trie.compose`.
    planes : int
        Binary digits of the largest count.
    patience : int
        So many groups of GROUP terms can be multiplied before their product might leave the doubles.
    prior (n_prior,), transit (n_transit,), pairs (n_pairs, 2) : float64
        The grid.

    Returns
    -------
    float64 (n_prior, n_transit, n_pairs)
    """
    n_prior = prior.size
    n_pairs = pairs.shape[0]
    out = np.empty((n_prior, transit.size, n_pairs))
    weights = np.empty((n_prior, GROUP + 1))
    for p in range(n_prior):
        for j in range(GROUP + 1):
            weights[p, j] = prior[p] ** j * (1.0 - prior[p]) ** (GROUP - j)

    patterns = 2 << STEP
    known = np.empty((patterns, TILE))
    unknown = np.empty((patterns, TILE))
    learned = np.empty((patterns, TILE))
    a = np.empty((slots, TILE))
    b = np.empty((slots, TILE))
    ea = np.zeros((slots, TILE), np.int64)
    eb = np.zeros((slots, TILE), np.int64)
    ratio = np.ones((slots, TILE))
    scaled = np.zeros(slots, np.bool_)
    slip = np.empty(TILE)
    guess = np.empty(TILE)
    base = np.empty(TILE, np.int64)
    wait_a = np.empty((planes, GROUP, TILE))
    wait_b = np.empty((planes, GROUP, TILE))
    waiting = np.zeros(planes, np.int64)
    groups = np.zeros(planes, np.int64)
    product = np.empty((planes, n_prior, TILE))
    exponent = np.empty((planes, n_prior, TILE), np.int64)

    for start in range(0, n_pairs, TILE):
        for m in range(TILE):
            slip[m] = pairs[min(start + m, n_pairs - 1), 0]
            guess[m] = pairs[min(start + m, n_pairs - 1), 1]
        for t in range(transit.size):
            _tables(transit[t], slip, guess, known, unknown, learned)
            base[:] = 0
            product[:] = 1.0
            exponent[:] = 0
            a[0] = 1.0
            b[0] = 1.0
            scaled[0] = False
            for i in range(program.shape[0]):
                code = program[i, 0]
                slot = program[i, 1]
                if code > EMIT:
                    to = program[i, 2]
                    if to != slot:
                        a[to] = a[slot]
                        b[to] = b[slot]
                        scaled[to] = scaled[slot]
                        if scaled[slot]:
                            ea[to] = ea[slot]
                            eb[to] = eb[slot]
                            ratio[to] = ratio[slot]
                    if scaled[to]:
                        _step_scaled(known[code], unknown[code], learned[code], a[to], b[to], ratio[to])
                    else:
                        _step(known[code], unknown[code], learned[code], a[to], b[to])
                elif code == RESCALE:
                    _rescale(a[slot], b[slot], ea[slot], eb[slot], ratio[slot], scaled[slot])
                    scaled[slot] = True
                else:
                    count = int(program[i, 2])
                    low = 0
                    while (count >> low) & 1 == 0:
                        low += 1
                    at = waiting[low]
                    _emit(
                        a[slot],
                        b[slot],
                        ea[slot],
                        eb[slot],
                        scaled[slot],
                        count,
                        wait_a[low, at],
                        wait_b[low, at],
                        base,
                    )
                    for plane in range(low, planes):
                        if (count >> plane) & 1:
                            if plane > low:
                                wait_a[plane, waiting[plane]] = wait_a[low, at]
                                wait_b[plane, waiting[plane]] = wait_b[low, at]
                            waiting[plane] += 1
                    for plane in range(low, planes):
                        if waiting[plane] == GROUP:
                            _multiply(wait_a[plane], wait_b[plane], weights, product[plane])
                            waiting[plane] = 0
                            groups[plane] += 1
                            if groups[plane] == patience:
                                _normalise(product[plane], exponent[plane])
                                groups[plane] = 0
            for plane in range(planes):
                if waiting[plane] > 0:
                    wait_a[plane, waiting[plane] :] = 1.0
                    wait_b[plane, waiting[plane] :] = 1.0
                    _multiply(wait_a[plane], wait_b[plane], weights, product[plane])
                    waiting[plane] = 0
                _normalise(product[plane], exponent[plane])
                groups[plane] = 0
            for plane in range(planes - 2, -1, -1):
                for p in range(n_prior):
                    for m in range(TILE):
                        product[plane, p, m] *= product[plane + 1, p, m] * product[plane + 1, p, m]
                        exponent[plane, p, m] += 2 * exponent[plane + 1, p, m]
                _normalise(product[plane], exponent[plane])
            for p in range(n_prior):
                for m in range(min(TILE, n_pairs - start)):
                    out[p, t, start + m] = math.log(product[0, p, m]) + _LN2 * (exponent[0, p, m] + base[m])
    return out
