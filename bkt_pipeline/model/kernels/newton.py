"""The searches behind `irt`: Newton's method for one item after another, compiled.

The search for the 2PL uses slope a and intercept c = -a b. In these terms the log-likelihood is concave, and the box a in
[a_min, a_max], b in [b_min, b_max] is a trapezoid, bounded by four straight lines. Each step goes to the best point of the
second-order model inside the trapezoid. If the optimum is outside the box, the search therefore ends at the correct point
of an edge or corner, and a search for maximum likelihood cannot stop at a false optimum. The prior on (log a, b) is not
concave everywhere in (a, c). If the sum is not concave, a concave part of it is used to choose the step; the objective
stays the same.

Bounds and priors are arguments, because numba's cache on disk does not notice changes to constants of other modules.
"""

import math

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.kernels.compile import kernel

Floats = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]
# The normal prior on (log a, b): two means, then the inverse covariance by (log a, log a), (log a, b), (b, b).
# If the inverse is zero, there is no prior.
Prior = tuple[float, float, float, float, float]
Point = tuple[float, float, float, float, float, float, float]

MAX_STEPS = 100
MAX_HALVINGS = 40
# Nats that a full step promises. Newton's method squares its error, so the error after that step is below rounding.
GAIN_TOLERANCE = 1e-13
# In logits. The search for an offset squares its error too.
OFFSET_TOLERANCE = 1e-10
# Relative rounding error of a sum of logs; a step may seem worse by that much.
ROUNDING = 1e-12


@kernel
def evaluate(theta: Floats, responses: npt.NDArray[np.uint8], a: float, c: float, prior: Prior) -> Point:
    """Objective, log-likelihood, and the objective's derivatives by a, c, aa, ac and cc, all in nats.

    It makes one pass over the answers and cannot overflow.
    """
    log_likelihood = 0.0
    residual = residual_theta = 0.0
    weight = weight_theta = weight_theta_theta = 0.0
    for i in range(theta.size):
        t = theta[i]
        right = responses[i] == 1
        z = a * t + c if right else -(a * t + c)
        tail = math.exp(-abs(z))
        share = 1.0 / (1.0 + tail)
        log_likelihood += min(z, 0.0) - math.log1p(tail)
        missing = tail * share if z >= 0.0 else share
        r = missing if right else -missing
        w = tail * share * share
        residual += r
        residual_theta += r * t
        weight += w
        weight_theta += w * t
        weight_theta_theta += w * t * t
    mean_log_a, mean_b, on_log_a, on_both, on_b = prior
    b = -c / a
    away_log_a, away_b = math.log(a) - mean_log_a, b - mean_b
    pull_log_a = on_log_a * away_log_a + on_both * away_b
    pull_b = on_both * away_log_a + on_b * away_b
    return (
        log_likelihood - 0.5 * (pull_log_a * away_log_a + pull_b * away_b),
        log_likelihood,
        residual_theta - (pull_log_a - b * pull_b) / a,
        residual + pull_b / a,
        -weight_theta_theta
        - (on_log_a - 2.0 * b * on_both + b * b * on_b - pull_log_a + 2.0 * b * pull_b) / (a * a),
        -weight_theta - (b * on_b - on_both + pull_b) / (a * a),
        -weight - on_b / (a * a),
    )


@kernel
def _concave(a: float, b: float, aa: float, ac: float, cc: float, prior: Prior) -> tuple[float, float, float]:
    """The second derivatives if they are concave, otherwise a concave part of them.

    The concave part omits the convex terms of the prior (Gauss-Newton). A small ridge is added because answers that all
    have the same theta leave one direction without curvature.
    """
    if aa < 0.0 and aa * cc - ac * ac > 1e-13 * aa * cc:
        return aa, ac, cc
    mean_log_a, mean_b, on_log_a, on_both, on_b = prior
    away_log_a, away_b = math.log(a) - mean_log_a, b - mean_b
    pull_log_a = on_log_a * away_log_a + on_both * away_b
    pull_b = on_both * away_log_a + on_b * away_b
    aa += (2.0 * b * pull_b - max(pull_log_a, 0.0)) / (a * a)
    ac += pull_b / (a * a)
    return aa * (1.0 + 1e-9) - 1e-12, ac, cc * (1.0 + 1e-9) - 1e-12


@kernel
def _best_in_box(a: float, b: float, point: Point, box: Box, prior: Prior) -> tuple[float, float]:
    """The maximum (a, b) within the box of the second-order model at (a, b); a value at a bound is exact."""
    a_min, a_max, b_min, b_max = box
    _, _, by_a, by_c, aa, ac, cc = point
    aa, ac, cc = _concave(a, b, aa, ac, cc, prior)
    c = -a * b
    determinant = aa * cc - ac * ac
    top_a = a - (cc * by_a - ac * by_c) / determinant
    top_b = -(c - (aa * by_c - ac * by_a) / determinant) / top_a if top_a > 0.0 else math.nan
    if a_min <= top_a <= a_max and b_min <= top_b <= b_max:
        return top_a, top_b

    best = -math.inf
    best_a, best_b = a, b
    for side in range(4):
        if side < 2:
            edge_a = box[side]
            da = edge_a - a
            edge_b = min(max(-(c - (by_c + ac * da) / cc) / edge_a, b_min), b_max)
        else:
            # On this edge c = -edge_b a, so only a is free.
            edge_b = box[side]
            dc = -a * edge_b - c
            slope = by_a + ac * dc - edge_b * (by_c + cc * dc)
            bend = aa - 2.0 * edge_b * ac + edge_b * edge_b * cc
            edge_a = min(max(a - slope / bend, a_min), a_max)
        da = edge_a - a
        dc = -edge_a * edge_b - c
        rise = by_a * da + by_c * dc + 0.5 * (aa * da * da + 2.0 * ac * da * dc + cc * dc * dc)
        if rise > best:
            best, best_a, best_b = rise, edge_a, edge_b
    return best_a, best_b


@kernel
def maximise(
    theta: Floats, responses: npt.NDArray[np.uint8], a: float, b: float, box: Box, prior: Prior
) -> tuple[float, float, Point, bool]:
    """Climb from (a, b) to the highest point of the box; returns a, b, the result of `evaluate`, and whether it converged.

    A step is halved until the objective rises by a sufficient part of the predicted gain (Armijo), so the end is never
    worse than the start.
    """
    point = evaluate(theta, responses, a, -a * b, prior)
    for _ in range(MAX_STEPS):
        goal_a, goal_b = _best_in_box(a, b, point, box, prior)
        c = -a * b
        da = goal_a - a
        dc = -goal_a * goal_b - c
        promised = point[2] * da + point[3] * dc
        floor = point[0] - ROUNDING * (1.0 + abs(point[0]))
        part = 1.0
        next_a, next_b = goal_a, goal_b
        trial = evaluate(theta, responses, next_a, -next_a * next_b, prior)
        while trial[0] < floor + 1e-4 * part * promised:
            part *= 0.5
            if part < 0.5**MAX_HALVINGS:
                return a, b, point, False
            next_a = a + part * da
            next_b = min(max(-(c + part * dc) / next_a, box[2]), box[3])
            trial = evaluate(theta, responses, next_a, -next_a * next_b, prior)
        a, b, point = next_a, next_b, trial
        if part == 1.0 and promised <= GAIN_TOLERANCE:
            return a, b, point, True
    return a, b, point, False


@kernel
def fit(
    theta: Floats,
    responses: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.bool_],
    box: Box,
    prior: Prior,
) -> tuple[Floats, Floats, Floats, Floats, npt.NDArray[np.bool_]]:
    """For each wanted item: a, b, log-likelihood, information (n_items, 3) by aa, ac, cc, converged. Others are NaN."""
    n_items = offsets.size - 1
    a = np.full(n_items, np.nan)
    b = np.full(n_items, np.nan)
    log_likelihood = np.full(n_items, np.nan)
    information = np.full((n_items, 3), np.nan)
    converged = np.zeros(n_items, np.bool_)
    for i in range(n_items):
        if not wanted[i]:
            continue
        mine = slice(offsets[i], offsets[i + 1])
        a[i], b[i], point, converged[i] = maximise(theta[mine], responses[mine], 1.0, 0.0, box, prior)
        log_likelihood[i] = point[1]
        for k in range(3):
            information[i, k] = -point[4 + k]
    return a, b, log_likelihood, information, converged


@kernel
def fit_offsets(
    eta: Floats,
    responses: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.bool_],
    precision: float,
) -> tuple[Floats, Floats]:
    """For each wanted item: the mode of d with slope a = 1 and b = -d, and the curvature there. Others are NaN.

    `precision` is 1 / variance of the prior on d, above 0. A Newton step s is shortened to log(1 + |s|), which never
    passes the mode; see `model.irt.offset`.
    """
    n_items = offsets.size - 1
    d = np.full(n_items, np.nan)
    curvature = np.full(n_items, np.nan)
    for i in range(n_items):
        if not wanted[i]:
            continue
        at = 0.0
        bend = precision
        for _ in range(MAX_STEPS):
            slope = -precision * at
            bend = precision
            for j in range(offsets[i], offsets[i + 1]):
                p = 1.0 / (1.0 + math.exp(-(eta[j] + at)))
                slope += responses[j] - p
                bend += p * (1.0 - p)
            step = slope / bend
            at += math.copysign(math.log1p(abs(step)), step)
            if abs(step) <= OFFSET_TOLERANCE:
                break
        d[i] = at
        curvature[i] = bend
    return d, curvature


@kernel
def describe(
    theta: Floats, responses: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], theta_limit: float
) -> tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """For each item: right answers, standard deviation of theta, whether all thetas and all responses are usable."""
    n_items = offsets.size - 1
    right = np.zeros(n_items, np.int64)
    spread = np.zeros(n_items)
    theta_usable = np.ones(n_items, np.bool_)
    responses_usable = np.ones(n_items, np.bool_)
    for i in range(n_items):
        total = 0.0
        for j in range(offsets[i], offsets[i + 1]):
            # Written so that NaN fails the condition.
            if not abs(theta[j]) <= theta_limit:
                theta_usable[i] = False
            if responses[j] > 1:
                responses_usable[i] = False
            right[i] += responses[j]
            total += theta[j]
        n = offsets[i + 1] - offsets[i]
        squares = 0.0
        for j in range(offsets[i], offsets[i + 1]):
            squares += (theta[j] - total / n) ** 2
        spread[i] = math.sqrt(squares / n) if n > 0 else 0.0
    return right, spread, theta_usable, responses_usable
