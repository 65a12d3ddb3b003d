"""Log-likelihood and its slope in the four parameters, in one backward pass over each sequence."""

import math

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.kernels.compile import kernel

_LN2 = math.log(2.0)
# Answers between two looks at the exponents; probabilities of an answer are above 1e-6 wherever this is used.
_INTERVAL = 32

Floats = npt.NDArray[np.float64]


@kernel
def gradient(
    responses: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    which: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    point: Floats,
) -> Floats:
    """Log-likelihood and its derivatives by p_l0, p_transit, p_slip and p_guess, shape (5,).

    The sequences `which` count `counts` times each. With a and b as in `_surface`, the derivatives of log b
    are carried beside b: where a share w of the new b comes from having learned just now,

        dlog b <- dlog e_unknown + (1 - w) dlog b + w dlog a   (+ the slope of the mixture itself for
        p_transit)

    They stay moderate however small b becomes.
    """
    prior, transit, slip, guess = point[0], point[1], point[2], point[3]
    out = np.zeros(5)
    for i in range(which.size):
        begin = offsets[which[i]]
        a = 1.0
        b = 1.0
        ea = 0
        eb = 0
        ratio = 1.0
        a_slip = 0.0
        b_transit = 0.0
        b_slip = 0.0
        b_guess = 0.0
        since = 0
        for j in range(offsets[which[i] + 1] - 1, begin - 1, -1):
            known = a * ratio
            mixed = (1.0 - transit) * b + transit * known
            learned = transit * known / mixed
            b_transit = (1.0 - learned) * b_transit + (known - b) / mixed
            b_slip = (1.0 - learned) * b_slip + learned * a_slip
            b_guess = (1.0 - learned) * b_guess
            if responses[j]:
                b = guess * mixed
                b_guess += 1.0 / guess
                a *= 1.0 - slip
                a_slip -= 1.0 / (1.0 - slip)
            else:
                b = (1.0 - guess) * mixed
                b_guess -= 1.0 / (1.0 - guess)
                a *= slip
                a_slip += 1.0 / slip
            since += 1
            if since == _INTERVAL or j == begin:
                since = 0
                a, shift = math.frexp(a)
                ea += shift
                b, shift = math.frexp(b)
                eb += shift
                ratio = math.ldexp(1.0, min(max(ea - eb, -1000), 1000))
        top = max(ea, eb)
        weight_a = prior * math.ldexp(a, max(ea - top, -1000))
        weight_b = (1.0 - prior) * math.ldexp(b, max(eb - top, -1000))
        total = weight_a + weight_b
        knew = weight_a / total
        n = counts[i]
        out[0] += n * (math.log(total) + _LN2 * top)
        out[1] += n * (knew / prior - (1.0 - knew) / (1.0 - prior))
        out[2] += n * (1.0 - knew) * b_transit
        out[3] += n * (knew * a_slip + (1.0 - knew) * b_slip)
        out[4] += n * (1.0 - knew) * b_guess
    return out
