"""Items on the ability scale: the two-parameter logistic model (2PL) with known theta.

    P(right | theta) = 1 / (1 + exp(-a (theta - b)))

`a` is how sharply an item distinguishes abilities, `b` the theta at which half the answers are right. Theta is known
here, from what the skill's parameters predict before the answer (`curve.ability`); it is not estimated together with the
items. (log a, b) has a normal prior, which can be learned from a school's own items (`prior.learn_item_prior`).

`fit_items` fits any number of items in one call, `fit_item` a single one. Each item's status and flags report what its
answers cannot determine. A bad item never affects the results of the others, not even in the last bit.

References
----------
Birnbaum, A. (1968). Some latent trait models and their use in inferring an examinee's ability. In F. M. Lord & M. R.
Novick, Statistical theories of mental test scores, 397-479. Addison-Wesley.

Mislevy, R. J. (1986). Bayes modal estimation in item response models. Psychometrika 51(2), 177-195.
https://doi.org/10.1007/BF02293979
"""

from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.model.irt.fits import ItemFit, ItemFits, ItemFlag, ItemStatus
from bkt_pipeline.model.irt.layout import THETA_LIMIT, checked
from bkt_pipeline.model.irt.prior import SHIPPED_ITEM_PRIOR, ItemMoments, ItemPrior

__all__ = ["A_BOUNDS", "B_BOUNDS", "fit_item", "fit_items", "item_moments"]

# They keep maximum likelihood finite. With a prior, no item of the real data sets comes near them.
A_BOUNDS = (0.25, 4.0)
B_BOUNDS = (-5.0, 5.0)
MIN_ANSWERS = 50
CALIBRATED_ANSWERS = 200
# Below this, 200 answers give `a` a standard error near 0.6, so the prior says more about `a` than the answers do.
MIN_THETA_SD = 0.25
NO_PRIOR = (0.0, 0.0, 0.0, 0.0, 0.0)


def fit_items(
    theta: npt.ArrayLike,
    responses: npt.ArrayLike,
    offsets: npt.ArrayLike,
    *,
    method: Literal["map", "ml"] = "map",
    prior: ItemPrior = SHIPPED_ITEM_PRIOR,
    min_answers: int = MIN_ANSWERS,
    calibrated_answers: int = CALIBRATED_ANSWERS,
) -> ItemFits:
    """Fit every item's a in [0.25, 4] and b in [-5, 5] to answers of known theta.

    Parameters
    ----------
    theta : float64[n_answers]
        Ability just before each answer (logits), item after item.
    responses : uint8[n_answers]
        1 right, 0 wrong; bool and any integer type are accepted too.
    offsets : int64[n_items + 1]
        Item i's answers are those from offsets[i] up to but not including offsets[i + 1]. Their order does not matter.
    method : {"map", "ml"}
        "map" adds the prior and finds the mode in (log a, b) (Mislevy 1986); "ml" uses the likelihood alone.
    prior : ItemPrior
        The prior of (log a, b); "ml" does not use it.
    min_answers, calibrated_answers : int
        With fewer answers than the first, an item is skipped; with fewer than the second, it is provisional.

    Returns
    -------
    ItemFits
        Arrays of n_items. An optimum outside the bounds is replaced by the best point on the bounds, which is not
        the clipped optimum.

        An item that everybody got right, or everybody got wrong, is flagged and skipped, because its answers bound b
        only from one side. An item with a theta that is NaN or beyond ±100, or a response other than 0 and 1, is
        flagged as invalid. Both kinds have NaN as parameters. All other items get exactly the results of a fit of
        their own.

    Raises
    ------
    InvalidAttempts
        If the shapes, types or offsets of the arrays do not fit together.
    InvalidSettings
        If method, min_answers or calibrated_answers is out of range.

    Notes
    -----
    The likelihood is concave in slope and intercept, and the bounds define a convex region, so its optimum there is
    the global one. The prior is not concave in these terms. A wide search over difficult items has found no second
    optimum, and the tests keep looking for one.

    Examples
    --------
    Two items, answered by the same 400 students; the second is harder and sharper.

    >>> from bkt_pipeline.model.irt.curve import probability
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
    theta, answers, offsets = checked(theta, responses, offsets)
    if method not in ("map", "ml"):
        raise InvalidSettings(f"method is {method!r}; use 'map' or 'ml'")
    if not 1 <= min_answers <= calibrated_answers:
        raise InvalidSettings(
            f"min_answers is {min_answers} and calibrated_answers {calibrated_answers}; "
            "need 1 <= min_answers <= calibrated_answers"
        )
    # numba is slow to import, and not every caller of this module fits anything.
    from bkt_pipeline.model.kernels import newton

    n_attempts = np.diff(offsets)
    right, spread, theta_usable, responses_usable = newton.describe(theta, answers, offsets, THETA_LIMIT)
    usable = theta_usable & responses_usable
    wanted = usable & (n_attempts >= min_answers) & (right > 0) & (right < n_attempts)
    a, b, log_likelihood, curvature, converged = newton.fit(
        theta,
        answers,
        offsets,
        wanted,
        (*A_BOUNDS, *B_BOUNDS),
        _numbers(prior) if method == "map" else NO_PRIOR,
    )
    se_a, se_b = _standard_errors(a, b, curvature)
    answered = usable & (n_attempts > 0)
    flags = np.zeros(n_attempts.size, np.uint8)
    for flag, holds in (
        (ItemFlag.AT_BOUND_A, _at(a, A_BOUNDS)),
        (ItemFlag.AT_BOUND_B, _at(b, B_BOUNDS)),
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
    prior: ItemPrior = SHIPPED_ITEM_PRIOR,
    min_answers: int = MIN_ANSWERS,
    calibrated_answers: int = CALIBRATED_ANSWERS,
) -> ItemFit:
    """Fit one item; parameters, errors and results are those of `fit_items`.

    Examples
    --------
    >>> fit = fit_item(np.linspace(-2, 2, 60), [0, 0, 0, 1, 0, 1] * 5 + [1, 0, 1, 1, 1, 1] * 5)
    >>> round(fit.irt_a, 3), round(fit.irt_b, 3), fit.status.value
    (1.001, -0.407, 'provisional')
    """
    fits = fit_items(
        theta,
        responses,
        [0, np.size(responses)],
        method=method,
        prior=prior,
        min_answers=min_answers,
        calibrated_answers=calibrated_answers,
    )
    return fits[0]


def item_moments(
    theta: npt.ArrayLike,
    responses: npt.ArrayLike,
    offsets: npt.ArrayLike,
    *,
    min_answers: int = MIN_ANSWERS,
) -> ItemMoments:
    """What these items contribute to the prior: sums over their posteriors under the shipped prior.

    Parameters
    ----------
    theta, responses, offsets
        As in `fit_items`.
    min_answers : int
        Items with fewer answers are ignored, and so are items that everybody got right or everybody got wrong.

    Returns
    -------
    ItemMoments
        For `learn_item_prior`.

    Raises
    ------
    InvalidAttempts
        If the arrays do not fit together.

    Examples
    --------
    >>> item_moments(np.linspace(-2, 2, 60), [0, 1] * 30, [0, 60]).n_items
    1
    """
    return moments_of_groups(theta, responses, offsets, [0, np.size(offsets) - 1], min_answers=min_answers)[0]


def moments_of_groups(
    theta: npt.ArrayLike,
    responses: npt.ArrayLike,
    offsets: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    min_answers: int = MIN_ANSWERS,
) -> list[ItemMoments]:
    """The `item_moments` of each group of items; group g is the items from groups[g] up to but not groups[g + 1]."""
    theta, answers, offsets = checked(theta, responses, offsets)
    from bkt_pipeline.model.kernels import newton

    n_attempts = np.diff(offsets)
    right, _, theta_usable, responses_usable = newton.describe(theta, answers, offsets, THETA_LIMIT)
    wanted = (
        theta_usable & responses_usable & (n_attempts >= min_answers) & (right > 0) & (right < n_attempts)
    )
    box = (*A_BOUNDS, *B_BOUNDS)
    a, b, _, curvature, converged = newton.fit(
        theta, answers, offsets, wanted, box, _numbers(SHIPPED_ITEM_PRIOR)
    )
    inside = converged & ~_at(a, A_BOUNDS) & ~_at(b, B_BOUNDS)
    a, b = a[inside], b[inside]
    aa, ac, cc = curvature[inside].T
    # From (a, c) with c = -a b to (log a, b). At the mode the slope is 0, so only the curvature is transformed.
    on_log_a = aa - 2.0 * b * ac + b * b * cc
    on_both = b * cc - ac
    determinant = a * a * (on_log_a * cc - on_both * on_both)
    covariances = np.stack([cc, -on_both, on_log_a], axis=1) / determinant[:, None]
    modes = np.stack([np.log(a), b], axis=1)
    # Where each group begins among the items inside the bounds.
    begins = np.concatenate([[0], np.cumsum(inside)])[np.asarray(groups)].tolist()
    return [ItemMoments.of(modes[one:end], covariances[one:end]) for one, end in pairwise(begins)]


def _at(values: npt.NDArray[np.float64], bounds: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Which values are at a bound; ten times as fast as `np.isin` for the items of one skill."""
    at: npt.NDArray[np.bool_] = (values == bounds[0]) | (values == bounds[1])
    return at


def _numbers(prior: ItemPrior) -> tuple[float, float, float, float, float]:
    """The prior in the form for the search: means, then the inverse covariance."""
    return (prior.mean_log_a, prior.mean_b, *prior.precision)


def _standard_errors(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], information: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Standard errors of a and b, float64[n_items] each, from information[n_items, 3] by aa, ac, cc; c = -a b."""
    aa, ac, cc = information.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        determinant = aa * cc - ac * ac
        on_a = aa - 2 * b * ac + b * b * cc
        # Such small differences are rounding errors: there is no curvature.
        determinant[~(determinant > 1e-12 * aa * cc)] = np.nan
        on_a[~(on_a > 1e-12 * aa)] = np.nan
        se_a = np.sqrt(np.where(_at(b, B_BOUNDS), 1 / on_a, cc / determinant))
        se_b = np.sqrt(np.where(_at(a, A_BOUNDS), 1 / cc, on_a / determinant)) / a
    # So little curvature that the error leaves the doubles is none.
    se_a[_at(a, A_BOUNDS) | np.isinf(se_a)] = np.nan
    se_b[_at(b, B_BOUNDS) | np.isinf(se_b)] = np.nan
    return se_a, se_b
