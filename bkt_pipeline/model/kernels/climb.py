"""Climbs from a starting point to the optimum of a log-likelihood or a log-posterior, on logits and within bounds.

This is a quasi-Newton climb with analytic slopes. The curvature comes from differences of slopes at the start and is
corrected after each step (BFGS). A parameter whose slope pushes it beyond its bound is held at the bound. All of this is
scalar code in a fixed order, so the same sequences always give the same result to the last bit.
"""

import math

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.kernels.compile import kernel

_LN2 = math.log(2.0)
# Answers between two checks of the exponents. The probability of an answer is always above 1e-6 here.
_INTERVAL = 32
_MOST_STEPS = 200
_DIFFERENCE = 1e-4  # logits between two slopes whose difference gives a curvature
_LONGEST = 3.0  # logits that one step may cover on any axis
_HALVINGS = 40
# A climb ends when the slope is below this, in nats per logit. The second part is per answer, because rounding errors
# add up.
_SLOPE, _SLOPE_EACH = 1e-6, 1e-9

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]


@kernel
def slopes(
    responses: Bytes,
    offsets: Ints,
    which: Int32s,
    counts: Int32s,
    point: Floats,
    mean: Floats,
    precision: Floats,
    out: Floats,
) -> None:
    """Fill out, shape (5,), with the objective at the logits `point` and its slope in each.

    The objective is the log-likelihood, in which sequence which[i] counts counts[i] times, minus
    (point - mean)' precision (point - mean) / 2. With a and b as in `surface`, the derivatives of log b by the
    probabilities are carried beside b: where a share w of the new b comes from having learned just now,

        dlog b <- dlog e_unknown + (1 - w) dlog b + w dlog a   (+ the slope of the mixture itself for p_transit)

    They stay moderate however small b becomes.
    """
    prior = 1.0 / (1.0 + math.exp(-point[0]))
    transit = 1.0 / (1.0 + math.exp(-point[1]))
    slip = 1.0 / (1.0 + math.exp(-point[2]))
    guess = 1.0 / (1.0 + math.exp(-point[3]))
    right_unknown = 1.0 / guess
    wrong_unknown = 1.0 / (1.0 - guess)
    right_known = 1.0 / (1.0 - slip)
    wrong_known = 1.0 / slip
    for k in range(5):
        out[k] = 0.0
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
            each = 1.0 / mixed
            learned = transit * known * each
            b_transit = (1.0 - learned) * b_transit + (known - b) * each
            b_slip += learned * (a_slip - b_slip)
            b_guess *= 1.0 - learned
            if responses[j]:
                b = guess * mixed
                b_guess += right_unknown
                a *= 1.0 - slip
                a_slip -= right_known
            else:
                b = (1.0 - guess) * mixed
                b_guess -= wrong_unknown
                a *= slip
                a_slip += wrong_known
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
    out[1] *= prior * (1.0 - prior)
    out[2] *= transit * (1.0 - transit)
    out[3] *= slip * (1.0 - slip)
    out[4] *= guess * (1.0 - guess)
    for k in range(4):
        pull = 0.0
        for m in range(4):
            pull += precision[k, m] * (point[m] - mean[m])
        out[0] -= 0.5 * pull * (point[k] - mean[k])
        out[k + 1] -= pull


@kernel
def curvature(
    responses: Bytes,
    offsets: Ints,
    which: Int32s,
    counts: Int32s,
    point: Floats,
    mean: Floats,
    precision: Floats,
    high: Floats,
    here: Floats,
    out: Floats,
) -> None:
    """Fill out, shape (4, 4), with the negative second derivatives of the objective; `here` has its slopes."""
    near = np.empty(4)
    there = np.empty(5)
    for k in range(4):
        for m in range(4):
            near[m] = point[m]
        near[k] += _DIFFERENCE if point[k] + _DIFFERENCE <= high[k] else -_DIFFERENCE
        slopes(responses, offsets, which, counts, near, mean, precision, there)
        for m in range(4):
            out[k, m] = (here[m + 1] - there[m + 1]) / (near[k] - point[k])
    for k in range(4):
        for m in range(k):
            out[k, m] = out[m, k] = 0.5 * (out[k, m] + out[m, k])


@kernel
def _factor(matrix: Floats, free: npt.NDArray[np.bool_], shift: float, root: Floats) -> bool:
    """Cholesky root of the free part of matrix + shift; False if it is not positive definite."""
    definite = True
    for k in range(4):
        for m in range(k + 1):
            both = free[k] and free[m]
            value = matrix[k, m] if both else 0.0
            if k == m:
                value = value + shift if both else 1.0
            for n in range(m):
                value -= root[k, n] * root[m, n]
            if k != m:
                root[k, m] = value / root[m, m]
            elif value > 1e-9 * abs(matrix[k, k]) and value > 1e-12:
                root[k, k] = math.sqrt(value)
            else:
                root[k, k] = 1.0
                definite = False
    return definite


@kernel
def climb(
    responses: Bytes,
    offsets: Ints,
    which: Int32s,
    counts: Int32s,
    starts: Floats,
    mean: Floats,
    precision: Floats,
    low: Floats,
    high: Floats,
    found: Floats,
) -> None:
    """Fill found, shape (4,), with the highest optimum that the climbs from all rows of `starts` find.

    No step goes down, so no climb ends below its start. It ends when no free slope is above the tolerance, or when
    rounding errors prevent any further gain.
    """
    answers = 0
    for i in range(which.size):
        answers += counts[i] * (offsets[which[i] + 1] - offsets[which[i]])
    tolerance = _SLOPE + _SLOPE_EACH * answers
    point = np.empty(4)
    best = -math.inf
    here, there = np.empty(5), np.empty(5)
    bend, root = np.empty((4, 4)), np.empty((4, 4))
    free = np.empty(4, np.bool_)
    step, ahead, back = np.empty(4), np.empty(4), np.empty(4)
    for start in range(starts.shape[0]):
        for k in range(4):
            point[k] = min(max(starts[start, k], low[k]), high[k])
        slopes(responses, offsets, which, counts, point, mean, precision, here)
        fresh = False
        for number in range(_MOST_STEPS):
            steepest = 0.0
            for k in range(4):
                free[k] = not (
                    (point[k] <= low[k] and here[k + 1] <= 0.0)
                    or (point[k] >= high[k] and here[k + 1] >= 0.0)
                )
                if free[k]:
                    steepest = max(steepest, abs(here[k + 1]))
            if steepest <= tolerance:
                break
            definite = number > 0 and _factor(bend, free, 0.0, root)
            if not definite:
                curvature(responses, offsets, which, counts, point, mean, precision, high, here, bend)
                fresh = True
                shift = 0.0
                while not _factor(bend, free, shift, root):
                    shift = max(4.0 * shift, 1e-3 * steepest)
                for k in range(4):
                    bend[k, k] += shift
            for k in range(4):
                step[k] = here[k + 1] if free[k] else 0.0
                for m in range(k):
                    step[k] -= root[k, m] * step[m]
                step[k] /= root[k, k]
            longest = _LONGEST
            for k in range(3, -1, -1):
                for m in range(k + 1, 4):
                    step[k] -= root[m, k] * step[m]
                step[k] /= root[k, k]
                longest = max(longest, abs(step[k]))
            share = _LONGEST / longest
            higher = False
            for _ in range(_HALVINGS):
                rise = 0.0
                for k in range(4):
                    ahead[k] = min(max(point[k] + share * step[k], low[k]), high[k])
                    rise += here[k + 1] * (ahead[k] - point[k])
                slopes(responses, offsets, which, counts, ahead, mean, precision, there)
                if there[0] > here[0] + 1e-4 * rise:
                    higher = True
                    break
                share *= 0.5
                if rise <= 1e-15 * abs(here[0]):
                    break
            if not higher:
                if fresh:
                    break
                # The corrected curvature may be inaccurate, so try once more with a fresh one.
                bend[0, 0] = -1.0
                continue
            fresh = False
            # BFGS; `back` is the curvature times the step.
            along, across = 0.0, 0.0
            for k in range(4):
                back[k] = 0.0
                for m in range(4):
                    back[k] += bend[k, m] * (ahead[m] - point[m])
            for k in range(4):
                along += (here[k + 1] - there[k + 1]) * (ahead[k] - point[k])
                across += back[k] * (ahead[k] - point[k])
            if along > 0.0 and across > 0.0:
                for k in range(4):
                    for m in range(4):
                        bend[k, m] += (here[k + 1] - there[k + 1]) * (here[m + 1] - there[m + 1]) / along
                        bend[k, m] -= back[k] * back[m] / across
            for k in range(4):
                point[k] = ahead[k]
            for k in range(5):
                here[k] = there[k]
        if here[0] > best:
            best = here[0]
            for k in range(4):
                found[k] = point[k]
