"""The log-likelihood at every point of a grid, in one compiled pass.

Without forgetting, the probability of a sequence is linear in the prior:

    P = p_l0 A + (1 - p_l0) B

A is the probability if the student knew the skill from the start, B if not. Both come from a backward pass over the
answers, with a for "known now" and b for "unknown now", starting from a = b = 1 after the last answer:

    a <- e_known a
    b <- e_unknown ((1 - p_transit) b + p_transit a)

e_known is (1 - slip) for a right answer and slip for a wrong one; e_unknown is guess and (1 - guess). The recursion
therefore runs once for each (transit, slip, guess) and not for each point. A pattern of several answers is one linear
map (a, b) -> (K a, U b + C a), whose K, U and C are in a small table.

The terms of four students are multiplied as a polynomial in (p_l0, 1 - p_l0) with only positive coefficients, so nothing
cancels. Products are kept as mantissa and binary exponent, and only one logarithm per point is needed, at the end. A
sequence that c students share enters the products of the binary digits of c, which are combined by squaring at the end,
so counts need no logarithm either.
"""

import math

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.kernels.compile import inlined, kernel

# The operations of the programs that `trie` writes. They are defined here because numba compiles these numbers into the
# kernels below, and compiles again only when this file changes; `trie` passes them to its own kernel as arguments.
# A step covers up to STEP answers at once, because the effect of a pattern of answers on the state is one linear map.
STEP = 4
# Operations. Codes from 2 on are steps: the bits of the pattern's answers after a leading 1.
RESCALE = 0
EMIT = 1

# Pairs of (slip, guess) that are processed together; a multiple of every SIMD width. 99 pairs fit into one tile.
TILE = 104
GROUP = 4
_MANTISSA = np.int64((1 << 52) - 1)
_ONE = np.int64(1023 << 52)
_LN2 = math.log(2.0)

# Everything that a tile needs is a row of one workspace, with one number per lane; these are row numbers. Thirty separate
# arrays would take half as long again to compile and to run.
_PATTERNS = 2 << STEP
_KNOWN = 0  # K of each pattern of answers
_UNKNOWN = _KNOWN + _PATTERNS  # U
_LEARNED = _UNKNOWN + _PATTERNS  # C
_TRANSIT = _LEARNED + _PATTERNS
_SLIP = _TRANSIT + 1
_GUESS = _SLIP + 1
_BASE = _GUESS + 1  # exponent taken out of all sequences so far
_SCALE_A = _BASE + 1
_SCALE_B = _SCALE_A + 1
_COEFFICIENTS = _SCALE_B + 1  # of a group's polynomial
_FIXED = _COEFFICIENTS + GROUP + 1
# A slot's state: its two masses, 2**(exponent of a - exponent of b), and their exponents.
_A, _B, _RATIO, _EA, _EB, _STATE_ROWS = range(6)
# For each binary digit of the counts: how many terms are waiting, and how many groups were multiplied so far.
_WAITING, _MULTIPLIED = range(2)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@inlined
def _tables(x: Floats) -> None:
    """Fill K, U and C of every pattern of up to STEP answers."""
    for m in range(TILE):
        x[_KNOWN + 1, m] = 1.0
        x[_UNKNOWN + 1, m] = 1.0
        x[_LEARNED + 1, m] = 0.0
    for code in range(2, _PATTERNS):
        before = code >> 1
        for m in range(TILE):
            transit = x[_TRANSIT, m]
            e_known = 1.0 - x[_SLIP, m] if code & 1 else x[_SLIP, m]
            e_unknown = x[_GUESS, m] if code & 1 else 1.0 - x[_GUESS, m]
            x[_KNOWN + code, m] = x[_KNOWN + before, m] * e_known
            x[_UNKNOWN + code, m] = x[_UNKNOWN + before, m] * e_unknown * (1.0 - transit)
            x[_LEARNED + code, m] = e_unknown * (
                (1.0 - transit) * x[_LEARNED + before, m] + transit * x[_KNOWN + before, m]
            )


@inlined
def _step(x: Floats, code: int, slot: int) -> None:
    for m in range(TILE):
        x[slot + _B, m] = x[_UNKNOWN + code, m] * x[slot + _B, m] + x[_LEARNED + code, m] * (
            x[slot + _A, m] * x[slot + _RATIO, m]
        )
        x[slot + _A, m] *= x[_KNOWN + code, m]


@inlined
def _rescale(bits: Ints, slot: int) -> None:
    """Move the exponents of a state's two masses into separate integers, so that neither mass underflows.

    If the masses differ by more than 2**±1000, the smaller one adds nothing until the next call.
    """
    for m in range(TILE):
        bits[slot + _EA, m] += (bits[slot + _A, m] >> 52) - 1023
        bits[slot + _EB, m] += (bits[slot + _B, m] >> 52) - 1023
        bits[slot + _A, m] = (bits[slot + _A, m] & _MANTISSA) | _ONE
        bits[slot + _B, m] = (bits[slot + _B, m] & _MANTISSA) | _ONE
        apart = min(max(bits[slot + _EA, m] - bits[slot + _EB, m], -1000), 1000)
        bits[slot + _RATIO, m] = (apart + 1023) << 52


@inlined
def _emit(bits: Ints, slot: int, count: int) -> None:
    """Compute the powers of 2 that scale the masses of a finished sequence so that the larger one is in [1, 2).

    The exponent that is taken out is added `count` times.
    """
    for m in range(TILE):
        ea = bits[slot + _EA, m]
        eb = bits[slot + _EB, m]
        top = max(ea + (bits[slot + _A, m] >> 52), eb + (bits[slot + _B, m] >> 52)) - 1023
        bits[_BASE, m] += count * top
        bits[_SCALE_A, m] = (max(ea - top, -1022) + 1023) << 52
        bits[_SCALE_B, m] = (max(eb - top, -1022) + 1023) << 52


@inlined
def _multiply(x: Floats, waiting: int, odds: int, product: int, n_prior: int) -> None:
    """Multiply the four waiting terms into the products of every prior."""
    for m in range(TILE):
        a0, a1, a2, a3 = x[waiting, m], x[waiting + 2, m], x[waiting + 4, m], x[waiting + 6, m]
        b0, b1, b2, b3 = x[waiting + 1, m], x[waiting + 3, m], x[waiting + 5, m], x[waiting + 7, m]
        x0, x1, x2 = b0 * b1, b0 * a1 + a0 * b1, a0 * a1
        y0, y1, y2 = b2 * b3, b2 * a3 + a2 * b3, a2 * a3
        x[_COEFFICIENTS, m] = x0 * y0
        x[_COEFFICIENTS + 1, m] = x0 * y1 + x1 * y0
        x[_COEFFICIENTS + 2, m] = x0 * y2 + x1 * y1 + x2 * y0
        x[_COEFFICIENTS + 3, m] = x1 * y2 + x2 * y1
        x[_COEFFICIENTS + 4, m] = x2 * y2
    for p in range(n_prior):
        for m in range(TILE):
            o = x[odds + p, m]
            rest = x[_COEFFICIENTS + 3, m] + o * x[_COEFFICIENTS + 4, m]
            rest = x[_COEFFICIENTS + 1, m] + o * (x[_COEFFICIENTS + 2, m] + o * rest)
            x[product + p, m] *= x[_COEFFICIENTS, m] + o * rest


@inlined
def _normalise(bits: Ints, product: int, n_prior: int) -> None:
    """Move the binary exponents of the products into the rows after them, leaving values in [1, 2)."""
    for p in range(n_prior):
        for m in range(TILE):
            bits[product + n_prior + p, m] += (bits[product + p, m] >> 52) - 1023
            bits[product + p, m] = (bits[product + p, m] & _MANTISSA) | _ONE


@inlined
def _join(x: Floats, bits: Ints, total: int, product: int, n_prior: int) -> None:
    """total**2 * product: each binary digit of the counts is worth twice the one below it."""
    for p in range(n_prior):
        for m in range(TILE):
            x[total + p, m] *= x[total + p, m] * x[product + p, m]
            exponents = 2 * bits[total + n_prior + p, m] + bits[product + n_prior + p, m]
            bits[total + n_prior + p, m] = exponents + (bits[total + p, m] >> 52) - 1023
            bits[total + p, m] = (bits[total + p, m] & _MANTISSA) | _ONE


@kernel
def _fill(
    program: npt.NDArray[np.int32],
    first: Ints,
    patience: int,
    odds: Floats,
    lanes: Floats,
    x: Floats,
    bits: Ints,
    counters: Ints,
    out: Floats,
) -> None:
    """Fill `out`, one tile of lanes after another. x is the workspace, and bits are the same rows as integers."""
    n_prior, n_lanes = odds.shape
    own_odds = _FIXED
    total = own_odds + n_prior  # products of all digits, followed by their exponents
    digits = total + 2 * n_prior  # of each digit the terms that wait, the products and their exponents
    of_digit = 2 * (GROUP + n_prior)
    states = digits + first.size * of_digit
    for start in range(0, n_lanes, TILE):
        for p in range(n_prior):
            for m in range(TILE):
                # The last tile is filled up with the last lane.
                x[own_odds + p, m] = odds[p, min(start + m, n_lanes - 1)]
                x[total + p, m] = 1.0
                bits[total + n_prior + p, m] = 0
        for m in range(TILE):
            for i in range(3):
                x[_TRANSIT + i, m] = lanes[min(start + m, n_lanes - 1), i]
            bits[_BASE, m] = 0
            # The state after the last answer.
            x[states + _A, m] = x[states + _B, m] = x[states + _RATIO, m] = 1.0
            bits[states + _EA, m] = bits[states + _EB, m] = 0
        for k in range(first.size):
            digit = digits + k * of_digit
            counters[k, _WAITING] = first[k]
            counters[k, _MULTIPLIED] = 0
            for m in range(TILE):
                for i in range(GROUP):
                    x[digit + 2 * i, m] = 0.0
                    x[digit + 2 * i + 1, m] = 1.0
            for p in range(n_prior):
                for m in range(TILE):
                    x[digit + 2 * GROUP + p, m] = 1.0
                    bits[digit + 2 * GROUP + n_prior + p, m] = 0
        _tables(x)
        for i in range(program.shape[0]):
            code = program[i, 0]
            slot = states + _STATE_ROWS * program[i, 1]
            argument = int(program[i, 2])
            if code > EMIT:
                to = states + _STATE_ROWS * argument
                if to != slot:
                    for r in range(_STATE_ROWS):
                        for m in range(TILE):
                            bits[to + r, m] = bits[slot + r, m]
                _step(x, code, to)
            elif code == RESCALE:
                _rescale(bits, slot)
            else:
                _emit(bits, slot, argument)
                for k in range(first.size):
                    if (argument >> k) & 1:
                        digit = digits + k * of_digit
                        at = digit + 2 * counters[k, _WAITING]
                        for m in range(TILE):
                            x[at, m] = x[slot + _A, m] * x[_SCALE_A, m]
                            x[at + 1, m] = x[slot + _B, m] * x[_SCALE_B, m]
                        counters[k, _WAITING] += 1
                        if counters[k, _WAITING] == GROUP:
                            product = digit + 2 * GROUP
                            _multiply(x, digit, own_odds, product, n_prior)
                            counters[k, _WAITING] = 0
                            counters[k, _MULTIPLIED] += 1
                            if counters[k, _MULTIPLIED] == patience:
                                _normalise(bits, product, n_prior)
                                counters[k, _MULTIPLIED] = 0
        for k in range(first.size - 1, -1, -1):
            _join(x, bits, total, digits + k * of_digit + 2 * GROUP, n_prior)
        for p in range(n_prior):
            for m in range(min(TILE, n_lanes - start)):
                exponent = bits[total + n_prior + p, m] + bits[_BASE, m]
                out[p, start + m] = math.log(x[total + p, m]) + _LN2 * exponent


def surface(
    program: npt.NDArray[np.int32],
    slots: int,
    first: Ints,
    patience: int,
    odds: Floats,
    lanes: Floats,
) -> Floats:
    """Log-likelihood minus n_students log(1 - p_l0), for many values of p_l0 on each of many lanes.

    Parameters
    ----------
    program : int32 (n_operations, 4), slots : int
        From `trie.compose`.
    first : int64 (n_digits,)
        For each binary digit of the counts, how many ones complete the groups of terms.
    patience : int
        How many groups of GROUP terms can be multiplied before their product might overflow or underflow.
    odds : float64 (n_prior, n_lanes)
        p_l0 / (1 - p_l0).
    lanes : float64 (n_lanes, 3)
        p_transit, p_slip and p_guess.

    Returns
    -------
    float64 (n_prior, n_lanes)
    """
    rows = _FIXED + (3 + 2 * first.size) * len(odds) + 2 * GROUP * first.size + _STATE_ROWS * slots
    # Rows that are aligned to the processor's cache lines are processed a third faster.
    room = np.empty((rows + 1) * TILE)
    begin = -room.ctypes.data % 64 // room.itemsize
    x = room[begin : begin + rows * TILE].reshape(rows, TILE)
    counters = np.empty((first.size, 2), np.int64)
    out = np.empty(odds.shape)
    _fill(program, first, patience, odds, lanes, x, x.view(np.int64), counters, out)
    return out
