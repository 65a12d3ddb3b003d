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
_PATTERNS = 2 << STEP  # a step's code: the bits of its answers after a leading 1
# Operations; those below STEP_FAR are steps of a state without exponents.
STEP_FAR, PUT, PUT_SCALED, SCALE, MULTIPLY, NORMALISE, RESCALE = (_PATTERNS * (1 + k) for k in range(7))

# Lanes that are processed together: a multiple of every SIMD width, and few enough for the processor's first cache.
TILE = 64
GROUP = 4
_MANTISSA, _ONE = np.int64((1 << 52) - 1), np.int64(1023 << 52)
_LN2, _ROOT2 = math.log(2.0), math.sqrt(2.0)
# Adding an integer below 2**51 to these bits gives the bits of _INTEGER plus that integer.
_INTEGER, _INTEGER_BITS = 1.5 * 2.0**52, np.int64(0x4338000000000000)

# Everything that a tile needs is a row of one workspace, with one number per lane; these are row numbers. Separate arrays
# would take half as long again to compile and to run.
_KNOWN = 0  # K of each pattern of answers
_UNKNOWN = _KNOWN + _PATTERNS  # U
_LEARNED = _UNKNOWN + _PATTERNS  # C
_SCALE_A = _LEARNED + _PATTERNS
_SCALE_B = _SCALE_A + 1
_COEFFICIENTS = _SCALE_B + 1  # of a group's polynomial
_FIXED = _COEFFICIENTS + GROUP + 1
# A slot's state: its two masses, and where they have exponents, 2**(exponent of a - exponent of b), and the exponents.
_A, _B, _RATIO, _EA, _EB, _STATE_ROWS = range(6)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@inlined
def _tables(x: Floats, lanes: Floats, start: int) -> None:
    """Fill K, U and C of every pattern of up to STEP answers."""
    for m in range(TILE):
        # The last tile is filled up with the last lane.
        lane = min(start + m, lanes.shape[0] - 1)
        transit, slip, guess = lanes[lane, 0], lanes[lane, 1], lanes[lane, 2]
        x[_KNOWN + 1, m] = 1.0
        x[_UNKNOWN + 1, m] = 1.0
        x[_LEARNED + 1, m] = 0.0
        x[_KNOWN + 2, m] = slip
        x[_KNOWN + 3, m] = 1.0 - slip
        x[_UNKNOWN + 2, m] = (1.0 - guess) * (1.0 - transit)
        x[_UNKNOWN + 3, m] = guess * (1.0 - transit)
        x[_LEARNED + 2, m] = (1.0 - guess) * transit
        x[_LEARNED + 3, m] = guess * transit
    for code in range(4, _PATTERNS):
        before = code >> 1
        one = 2 + (code & 1)
        for m in range(TILE):
            x[_LEARNED + code, m] = (
                x[_UNKNOWN + one, m] * x[_LEARNED + before, m] + x[_LEARNED + one, m] * x[_KNOWN + before, m]
            )
        for m in range(TILE):
            x[_KNOWN + code, m] = x[_KNOWN + before, m] * x[_KNOWN + one, m]
        for m in range(TILE):
            x[_UNKNOWN + code, m] = x[_UNKNOWN + before, m] * x[_UNKNOWN + one, m]


@inlined
def _step(x: Floats, code: int, slot: int, to: int) -> None:
    for m in range(TILE):
        x[to + _B, m] = x[_UNKNOWN + code, m] * x[slot + _B, m] + x[_LEARNED + code, m] * x[slot + _A, m]
    for m in range(TILE):
        x[to + _A, m] = x[_KNOWN + code, m] * x[slot + _A, m]


@inlined
def _step_far(x: Floats, bits: Ints, code: int, slot: int, to: int) -> None:
    """A step of a state with exponents."""
    for row in range(_RATIO, _STATE_ROWS):
        for m in range(TILE):
            bits[to + row, m] = bits[slot + row, m]
    for m in range(TILE):
        x[to + _A, m] = x[slot + _A, m] * x[slot + _RATIO, m]
    for m in range(TILE):
        x[to + _B, m] = x[_UNKNOWN + code, m] * x[slot + _B, m] + x[_LEARNED + code, m] * x[to + _A, m]
    for m in range(TILE):
        x[to + _A, m] = x[_KNOWN + code, m] * x[slot + _A, m]


@inlined
def _rescale(bits: Ints, slot: int, first: bool) -> None:
    """Move the exponents of a state's two masses into separate integers, so that neither mass underflows.

    If the masses differ by more than 2**±1000, the smaller one adds nothing until the next call.
    """
    if first:
        for row in range(_EA, _STATE_ROWS):
            for m in range(TILE):
                bits[slot + row, m] = 0
    for m in range(TILE):
        bits[slot + _EA, m] += (bits[slot + _A, m] >> 52) - 1023
        bits[slot + _EB, m] += (bits[slot + _B, m] >> 52) - 1023
        bits[slot + _A, m] = (bits[slot + _A, m] & _MANTISSA) | _ONE
        bits[slot + _B, m] = (bits[slot + _B, m] & _MANTISSA) | _ONE
        apart = min(max(bits[slot + _EA, m] - bits[slot + _EB, m], -1000), 1000)
        bits[slot + _RATIO, m] = (apart + 1023) << 52


@inlined
def _scale(bits: Ints, slot: int, base: int, count: int, far: bool) -> None:
    """Compute the powers of 2 that scale the masses of a finished sequence so that the larger one is in [1, 2).

    The exponent that is taken out is added `count` times.
    """
    for m in range(TILE):
        ea = bits[slot + _EA, m] if far else 0
        eb = bits[slot + _EB, m] if far else 0
        top = max(ea + (bits[slot + _A, m] >> 52), eb + (bits[slot + _B, m] >> 52)) - 1023
        bits[base, m] += count * top
        bits[_SCALE_A, m] = (max(ea - top, -1022) + 1023) << 52
        bits[_SCALE_B, m] = (max(eb - top, -1022) + 1023) << 52


@inlined
def _multiply(x: Floats, waiting: int, odds: Floats, product: int) -> None:
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
    for p in range(odds.size):
        o = odds[p]
        for m in range(TILE):
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
        for m in range(TILE):
            exponents = 2 * bits[total + n_prior + p, m] + bits[product + n_prior + p, m]
            bits[total + n_prior + p, m] = exponents + (bits[total + p, m] >> 52) - 1023
            bits[total + p, m] = (bits[total + p, m] & _MANTISSA) | _ONE


@inlined
def _logarithm(x: Floats, bits: Ints, mantissa: int, exponent: int, base: int) -> None:
    """Replace a mantissa in [1, 2) by the logarithm of it times 2**(exponent + base).

    log v = 2 (s + s**3 / 3 + ...) with s = (v - 1) / (v + 1), v within sqrt(2) of 1; for several lanes at once.
    """
    for m in range(TILE):
        bits[_SCALE_A, m] = bits[exponent, m] + bits[base, m] + _INTEGER_BITS
    for m in range(TILE):
        v = x[mantissa, m]
        twos = x[_SCALE_A, m] - _INTEGER
        above = v > _ROOT2
        twos = twos + 1.0 if above else twos
        v = 0.5 * v if above else v
        s = (v - 1.0) / (v + 1.0)
        z = s * s
        rest = 1.0 / 17.0 + z * (1.0 / 19.0 + z * (1.0 / 21.0))
        rest = 1.0 / 11.0 + z * (1.0 / 13.0 + z * (1.0 / 15.0 + z * rest))
        rest = 1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0 + z * rest))
        x[mantissa, m] = _LN2 * twos + 2.0 * s * (1.0 + z * (1.0 / 3.0 + z * rest))


@kernel
def _fill(
    program: npt.NDArray[np.int32],
    digits: int,
    odds: Floats,
    lanes: Floats,
    x: Floats,
    bits: Ints,
    out: Floats,
) -> None:
    """Fill `out` tile by tile. x is the workspace, and bits are the same rows as integers."""
    n_prior, n_lanes, sides = odds.size, lanes.shape[0], out.shape[0]
    own = _FIXED + sides  # of each digit the terms that wait, the products and their exponents
    of_digit = 2 * (GROUP + n_prior)
    states = own + sides * digits * of_digit
    for start in range(0, n_lanes, TILE):
        for side in range(sides):
            for m in range(TILE):
                bits[_FIXED + side, m] = 0
        for m in range(TILE):
            # The state after the last answer.
            x[states + _A, m] = x[states + _B, m] = 1.0
        for k in range(sides * digits):
            digit = own + k * of_digit
            for row in range(2 * GROUP):
                for m in range(TILE):
                    x[digit + row, m] = row & 1
            for p in range(n_prior):
                for m in range(TILE):
                    x[digit + 2 * GROUP + p, m] = 1.0
                    bits[digit + 2 * GROUP + n_prior + p, m] = 0
        _tables(x, lanes, start)
        for i in range(program.shape[0]):
            code = program[i, 0]
            slot = states + _STATE_ROWS * program[i, 1]
            to = states + _STATE_ROWS * program[i, 2]
            digit = own + program[i, 2] * of_digit
            if code < STEP_FAR:
                _step(x, code, slot, to)
            elif code < PUT:
                _step_far(x, bits, code - STEP_FAR, slot, to)
            elif code <= PUT_SCALED:
                at = digit + 2 * program[i, 3]
                if code == PUT:
                    for m in range(TILE):
                        x[at, m] = x[slot, m]
                        x[at + 1, m] = x[slot + 1, m]
                else:
                    for m in range(TILE):
                        x[at, m] = x[slot, m] * x[_SCALE_A, m]
                        x[at + 1, m] = x[slot + 1, m] * x[_SCALE_B, m]
            elif code == SCALE:
                _scale(bits, slot, _FIXED + (program[i, 2] >> 1), program[i, 3], program[i, 2] & 1 == 1)
            elif code == RESCALE:
                _rescale(bits, slot, program[i, 2] == 1)
            elif code == MULTIPLY:
                _multiply(x, digit, odds, digit + 2 * GROUP)
            else:
                _normalise(bits, digit + 2 * GROUP, n_prior)
        for side in range(sides):
            total = own + ((side + 1) * digits - 1) * of_digit + 2 * GROUP
            for k in range(1, digits):
                _join(x, bits, total, total - k * of_digit, n_prior)
            for p in range(n_prior):
                _logarithm(x, bits, total + p, total + n_prior + p, _FIXED + side)
                for m in range(min(TILE, n_lanes - start)):
                    out[side, p, start + m] = x[total + p, m]


def surface(
    program: npt.NDArray[np.int32],
    slots: int,
    digits: int,
    sides: int,
    odds: Floats,
    lanes: Floats,
) -> Floats:
    """Log-likelihood minus n_students log(1 - p_l0), shape (sides, n_prior, n_lanes).

    program, slots and digits are from `trie.compose`; sides are groups of students whose log-likelihoods are summed
    separately. odds (n_prior,) are p_l0 / (1 - p_l0); lanes (n_lanes, 3) are p_transit, p_slip and p_guess.
    """
    rows = _FIXED + sides + 2 * (GROUP + odds.size) * sides * digits + _STATE_ROWS * slots
    # Rows that are aligned to the processor's cache lines are processed a third faster.
    room = np.empty((rows + 1) * TILE)
    begin = -room.__array_interface__["data"][0] % 64 // room.itemsize
    x = room[begin : begin + rows * TILE].reshape(rows, TILE)
    out = np.empty((sides, odds.size, len(lanes)))
    _fill(program, digits, odds, lanes, x, x.view(np.int64), out)
    return out
