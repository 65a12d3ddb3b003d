"""Items on the ability scale: the two-parameter logistic model (2PL) with known theta.

    P(right | theta) = 1 / (1 + exp(-a (theta - b)))

`a` is how sharply an item tells abilities apart, `b` the theta at which half the answers are right. Theta is known
here, from the student's mastery before the answer (see `ability`); it is not estimated along with the items.

`fit_items` fits any number of items in one call, `fit_item` a single one. What an item cannot tell is said per item,
in its status and flags: one bad item never costs the others, nor does it change a bit of their results.

References
----------
Birnbaum, A. (1968). Some latent trait models and their use in inferring an examinee's ability. In F. M. Lord & M. R.
Novick, Statistical theories of mental test scores, 397-479. Addison-Wesley.

Mislevy, R. J. (1986). Bayes modal estimation in item response models. Psychometrika 51(2), 177-195.
https://doi.org/10.1007/BF02293979
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidAttempts, InvalidSettings
from bkt_pipeline.model.irt.fits import ItemFit, ItemFits, ItemFlag, ItemStatus

__all__ = ["A_BOUNDS", "B_BOUNDS", "ability", "fit_item", "fit_items", "information", "probability"]


A_BOUNDS = (0.5, 3.0)


B_BOUNDS = (-3.0, 3.0)


P_KNOWN_BOUNDS = (0.05, 0.95)


SD_LOG_A = 0.5


SD_B = 1.5


MIN_ANSWERS = 50


CALIBRATED_ANSWERS = 200


# Below it 200 answers leave a standard error of a near 0.6: the prior then says more about a than the answers do.
MIN_THETA_SD = 0.25


# Theta is a logit; what lies beyond this is a mistake, not an ability.
THETA_LIMIT = 100.0


def ability(p_known: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Theta of a student: the logit of P(known), clipped to [0.05, 0.95] first.

    Parameters
    ----------
    p_known : array_like of float
        P(known) just before the answer, any shape.

    Returns
    -------
    float64, same shape
        Logits in [-2.944, 2.944]. NaN where `p_known` is no probability, so that the fit can say which item has it.

    Examples
    --------
    >>> ability([0.0, 0.5, 0.8, 1.0]).round(3)
    array([-2.944,  0.   ,  1.386,  2.944])
    """
    p = np.asarray(p_known, dtype=np.float64)
    # A mastery computed in floats may miss 0 or 1 by some rounding.
    p = np.where(np.abs(p - 0.5) <= 0.5 + 1e-9, np.clip(p, *P_KNOWN_BOUNDS), np.nan)
    return np.log(p) - np.log1p(-p)


def probability(theta: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """P(right | theta) of the 2PL.

    Parameters
    ----------
    theta, a, b : array_like of float
        Ability (logits), discrimination, difficulty (logits); shapes that broadcast.

    Returns
    -------
    float64, the broadcast shape
        1 / (1 + exp(-a (theta - b))), without overflow.

    Examples
    --------
    >>> probability([-1.0, 0.0, 1.0], a=2.0, b=0.0).round(3)
    array([0.119, 0.5  , 0.881])
    """
    z = np.asarray(a, dtype=np.float64) * (
        np.asarray(theta, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    )
    tail = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1.0, tail) / (1.0 + tail), dtype=np.float64)


def information(theta: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Fisher information of one answer on theta: a^2 P (1 - P) (Birnbaum 1968). Highest at theta = b.

    Parameters
    ----------
    theta, a, b : array_like of float
        Ability (logits), discrimination, difficulty (logits); shapes that broadcast.

    Returns
    -------
    float64, the broadcast shape
        Information per answer, in 1 / logit^2; 1 / sqrt of a test's sum is the standard error of its theta.

    Examples
    --------
    >>> information([-1.0, 0.0, 1.0], a=2.0, b=0.0).round(3)
    array([0.42, 1.  , 0.42])
    """
    a = np.asarray(a, dtype=np.float64)
    # 1 - P taken as the mirrored P: the difference itself would round to 0 far above b.
    p, q = probability(theta, a, b), probability(-np.asarray(theta, dtype=np.float64), a, -np.asarray(b))
    return np.asarray(a * a * p * q, dtype=np.float64)


def fit_items(
    theta: npt.ArrayLike,
    responses: npt.ArrayLike,
    offsets: npt.ArrayLike,
    *,
    method: Literal["map", "ml"] = "map",
    sd_log_a: float = SD_LOG_A,
    sd_b: float = SD_B,
    min_answers: int = MIN_ANSWERS,
    calibrated_answers: int = CALIBRATED_ANSWERS,
) -> ItemFits:
    """Fit every item's a in [0.5, 3] and b in [-3, 3] to answers of known theta.

    Parameters
    ----------
    theta : float64[n_answers]
        Ability just before each answer (logits), item after item.
    responses : uint8[n_answers]
        1 right, 0 wrong; bool and any integer type are taken too.
    offsets : int64[n_items + 1]
        Item i's answers are those from offsets[i] up to, not including, offsets[i + 1]. Their order does not matter.
    method : {"map", "ml"}
        "map" adds the priors log a ~ N(0, sd_log_a) and b ~ N(0, sd_b) and finds the mode in (log a, b) (Mislevy
        1986); "ml" uses the likelihood alone.
    sd_log_a, sd_b : float
        Standard deviations of the priors; "ml" does not use them.
    min_answers, calibrated_answers : int
        Fewer answers than the first: skipped. Fewer than the second: provisional. Else calibrated.

    Returns
    -------
    ItemFits
        Arrays of n_items. An optimum outside the bounds is replaced by the best point on them, not by a clipped one.

        An item with a theta that is NaN or beyond ±100, or a response other than 0 and 1, is invalid and flagged;
        its fields are NaN, and the others come out bit for bit as if fitted alone.

    Raises
    ------
    InvalidAttempts
        If the arrays do not belong together: shapes, types, offsets.
    InvalidSettings
        If a setting cannot be meant.

    Notes
    -----
    Maximum likelihood is concave in slope and intercept, and the bounds leave a convex region, so the optimum is
    the global one. The priors are not concave there; no second optimum has been found in a wide search over hostile
    items, and the tests keep looking for one.

    Examples
    --------
    Two items, answered by the same 400 students; the second is harder and sharper.

    >>> rng = np.random.default_rng(7)
    >>> theta = np.tile(rng.normal(size=400), 2)
    >>> a, b = np.repeat([1.0, 2.0], 400), np.repeat([-0.5, 1.0], 400)
    >>> fits = fit_items(theta, rng.random(800) < probability(theta, a, b), [0, 400, 800])
    >>> bool(np.all(abs(fits.irt_a - [1.0, 2.0]) < 2 * fits.se_a))
    True
    >>> bool(np.all(abs(fits.irt_b - [-0.5, 1.0]) < 2 * fits.se_b))
    True
    >>> fits[1].status, fits[1].n_attempts, fits[1].flags
    (<ItemStatus.CALIBRATED: 'calibrated'>, 400, <ItemFlag: 0>)
    """
    theta, answers, offsets = _answers(theta, responses, offsets)
    precision = _precision(method, sd_log_a, sd_b)
    if not 1 <= min_answers <= calibrated_answers:
        raise InvalidSettings(
            f"min_answers is {min_answers} and calibrated_answers {calibrated_answers}; "
            "need 1 <= min_answers <= calibrated_answers"
        )
    # numba is slow to import; whoever needs only a bound, a flag or the information should not pay for it.
    from bkt_pipeline.model.kernels import newton as newton

    n_attempts = np.diff(offsets)
    right, spread, theta_usable, responses_usable = newton.describe(theta, answers, offsets, THETA_LIMIT)
    usable = theta_usable & responses_usable
    wanted = usable & (n_attempts >= min_answers)
    a, b, log_likelihood, curvature, converged = newton.fit(
        theta, answers, offsets, wanted, (*A_BOUNDS, *B_BOUNDS), precision
    )
    se_a, se_b = _standard_errors(a, b, curvature)
    answered = usable & (n_attempts > 0)
    flags = np.zeros(n_attempts.size, np.uint8)
    for flag, holds in (
        (ItemFlag.AT_BOUND_A, np.isin(a, A_BOUNDS)),
        (ItemFlag.AT_BOUND_B, np.isin(b, B_BOUNDS)),
        (ItemFlag.NOT_CONVERGED, wanted & ~converged),
        (ItemFlag.ALL_RIGHT, answered & (right == n_attempts)),
        (ItemFlag.ALL_WRONG, answered & (right == 0)),
        (ItemFlag.LOW_SPREAD, answered & (spread < MIN_THETA_SD)),
        (ItemFlag.BAD_THETA, ~theta_usable),
        (ItemFlag.BAD_RESPONSE, ~responses_usable),
    ):
        flags[holds] |= np.uint8(flag)
    status = np.select(
        [~usable, ~wanted, n_attempts < calibrated_answers],
        [ItemStatus.INVALID, ItemStatus.SKIPPED, ItemStatus.PROVISIONAL],
        ItemStatus.CALIBRATED,
    )
    return ItemFits(a, b, se_a, se_b, log_likelihood, n_attempts, flags, status)


def fit_item(
    theta: npt.ArrayLike,
    responses: npt.ArrayLike,
    *,
    method: Literal["map", "ml"] = "map",
    sd_log_a: float = SD_LOG_A,
    sd_b: float = SD_B,
    min_answers: int = MIN_ANSWERS,
    calibrated_answers: int = CALIBRATED_ANSWERS,
) -> ItemFit:
    """Fit one item; parameters, errors and meaning are those of `fit_items`.

    Examples
    --------
    >>> fit = fit_item(np.linspace(-2, 2, 60), [0, 0, 0, 1, 0, 1] * 5 + [1, 0, 1, 1, 1, 1] * 5)
    >>> round(fit.irt_a, 3), round(fit.irt_b, 3), fit.status.value
    (0.998, -0.427, 'provisional')
    """
    fits = fit_items(
        theta,
        responses,
        [0, np.size(responses)],
        method=method,
        sd_log_a=sd_log_a,
        sd_b=sd_b,
        min_answers=min_answers,
        calibrated_answers=calibrated_answers,
    )
    return fits[0]


def _answers(
    theta: npt.ArrayLike, responses: npt.ArrayLike, offsets: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The three arrays in the types of the search, checked as a whole; a response that is no 0 or 1 becomes 2."""
    try:
        theta = np.ascontiguousarray(theta, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidAttempts("theta is no array of numbers; give float64[n_answers]") from error
    given = np.asarray(responses)
    bounds = np.asarray(offsets)
    if given.size == 0:
        given = given.astype(np.uint8)
    if theta.ndim != 1 or given.shape != theta.shape:
        raise InvalidAttempts(
            f"theta has shape {theta.shape}, responses {given.shape}; both are [n_answers], one entry an answer"
        )
    if given.dtype.kind not in "biu":
        raise InvalidAttempts(f"responses have dtype {given.dtype}; give 0 and 1 as integers or bool")
    if bounds.ndim != 1 or bounds.size == 0 or bounds.dtype.kind not in "iu":
        raise InvalidAttempts(
            f"offsets have shape {bounds.shape} and dtype {bounds.dtype}; give int64[n_items + 1], [0] for no items"
        )
    bounds = np.ascontiguousarray(bounds, dtype=np.int64)
    if bounds[0] != 0 or bounds[-1] != theta.size or np.any(np.diff(bounds) < 0):
        raise InvalidAttempts(
            f"offsets go from {bounds[0]} to {bounds[-1]} over {theta.size} answers; "
            "they start at 0, never fall and end at n_answers"
        )
    answers = np.where((given == 0) | (given == 1), given, 2).astype(np.uint8)
    return theta, answers, bounds


def _precision(method: str, sd_log_a: float, sd_b: float) -> tuple[float, float]:
    """1 / variance of the priors on log a and on b; 0 is no prior."""
    if method not in ("map", "ml"):
        raise InvalidSettings(f"method is {method!r}; take 'map' or 'ml'")
    for name, sd in (("sd_log_a", sd_log_a), ("sd_b", sd_b)):
        if not 1e-3 <= sd <= 1e3:
            raise InvalidSettings(f"{name} is {sd}; give a standard deviation between 0.001 and 1000")
    return (sd_log_a**-2, sd_b**-2) if method == "map" else (0.0, 0.0)


def _standard_errors(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], information: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Standard errors of a and b, float64[n_items] each, from information[n_items, 3] by aa, ac, cc; c = -a b."""
    aa, ac, cc = information.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        determinant = aa * cc - ac * ac
        on_a = aa - 2 * b * ac + b * b * cc
        # Differences that rounding made: there is no curvature.
        determinant[~(determinant > 1e-12 * aa * cc)] = np.nan
        on_a[~(on_a > 1e-12 * aa)] = np.nan
        se_a = np.sqrt(np.where(np.isin(b, B_BOUNDS), 1 / on_a, cc / determinant))
        se_b = np.sqrt(np.where(np.isin(a, A_BOUNDS), 1 / cc, on_a / determinant)) / a
    # So little curvature that the error leaves the doubles is none.
    se_a[np.isin(a, A_BOUNDS) | np.isinf(se_a)] = np.nan
    se_b[np.isin(b, B_BOUNDS) | np.isinf(se_b)] = np.nan
    return se_a, se_b
