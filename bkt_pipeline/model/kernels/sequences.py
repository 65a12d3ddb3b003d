"""One sequence at a time, for one set of parameters: slower than the surface, but as accurate as doubles allow."""

import math

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.kernels.compile import inlined, kernel

_LN2 = math.log(2.0)
_LOST = -(1 << 40)
_SPLIT = 2.0**27 + 1.0
# More than a sum can have: each part has 53 bits of the 2,100 that doubles cover.
_PARTS = 64

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Answers = npt.NDArray[np.uint8]


@inlined
def _log_probability(
    responses: Answers,
    begin: int,
    end: int,
    prior: float,
    transit: float,
    slip: float,
    guess: float,
    interval: int,
) -> float:
    a = 1.0
    b = 1.0
    ea = 0
    eb = 0
    ratio = 1.0
    since = 0
    for i in range(end - 1, begin - 1, -1):
        if responses[i]:
            b = guess * ((1.0 - transit) * b + transit * (a * ratio))
            a *= 1.0 - slip
        else:
            b = (1.0 - guess) * ((1.0 - transit) * b + transit * (a * ratio))
            a *= slip
        since += 1
        if since == interval or i == begin:
            since = 0
            if a > 0.0:
                a, shift = math.frexp(a)
                ea += shift
            else:
                ea = _LOST
            if b > 0.0:
                b, shift = math.frexp(b)
                eb += shift
            else:
                eb = ea if a > 0.0 else _LOST
            ratio = math.ldexp(1.0, min(max(ea - eb, -1022), 1000)) if a > 0.0 else 0.0
    a *= prior
    b *= 1.0 - prior
    if a <= 0.0 and b <= 0.0:
        return -math.inf
    if a <= 0.0:
        return math.log(b) + _LN2 * eb
    if b <= 0.0:
        return math.log(a) + _LN2 * ea
    top = max(ea, eb)
    return math.log(math.ldexp(a, max(ea - top, -1074)) + math.ldexp(b, max(eb - top, -1074))) + _LN2 * top


@inlined
def _add(parts: Floats, used: int, value: float) -> int:
    """Add to a sum that is kept exactly, as `used` parts; return how many it has then (Shewchuk 1997)."""
    kept = 0
    for k in range(used):
        larger, smaller = (value, parts[k]) if abs(value) > abs(parts[k]) else (parts[k], value)
        value = larger + smaller
        rest = smaller - (value - larger)
        if rest != 0.0:
            parts[kept] = rest
            kept += 1
    parts[kept] = value
    return kept + 1


@kernel
def log_probabilities(
    responses: Answers,
    offsets: Ints,
    which: Int32s,
    counts: Int32s,
    prior: float,
    transit: float,
    slip: float,
    guess: float,
) -> Floats:
    """Natural log of the probability of sequences, of which which[i] occurs counts[i] times (below 2**26).

    Returns a few numbers, shape (n_parts,), whose exact sum it is; -inf alone if a sequence is impossible.
    """
    least = 1.0
    for emission in (slip, 1.0 - slip, guess, 1.0 - guess):
        if emission > 0.0:
            least = min(least, emission)
    interval = 1
    while interval < 64 and least ** (interval + 1) > 1e-90:
        interval += 1
    parts = np.empty(_PARTS)
    used = 0
    for i in range(which.size):
        begin, end = offsets[which[i]], offsets[which[i] + 1]
        value = _log_probability(responses, begin, end, prior, transit, slip, guess, interval)
        if value == -math.inf:
            parts[0] = value
            return parts[:1]
        # Each half of a value has at most 26 bits, so its product with a count is exact.
        high = value * _SPLIT
        high = high - (high - value)
        for half in (high, value - high):
            used = _add(parts, used, half * counts[i])
    return parts[:used]
