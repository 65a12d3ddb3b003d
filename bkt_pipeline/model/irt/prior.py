"""The prior on an item's (log a, b): the shipped one, and the one learned from a school's items.

    (log a, b) ~ N(mean, covariance)

The school's prior is one EM step from the shipped prior, which counts as 10 items. With m_i and C_i the mode and the
covariance of (log a, b) of item i under the shipped prior,

    mean' = (sum m_i + 10 mean) / (n + 10)
    covariance' = (sum [C_i + (m_i - mean')(m_i - mean')^T]
                   + 10 [covariance + (mean - mean')(mean - mean')^T]) / (n + 10)

The step always begins at the shipped prior, so the prior cannot drift from night to night. A school's items need not all
be in memory at once: `ItemMoments` holds the sums over one skill's items.

References
----------
Mislevy, R. J. (1986). Bayes modal estimation in item response models. Psychometrika 51(2), 177-195.
https://doi.org/10.1007/BF02293979
"""

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidSettings

__all__ = ["SHIPPED_ITEM_PRIOR", "ItemMoments", "ItemPrior", "learn_item_prior"]

# How many items the shipped prior counts as.
SHIPPED_ITEMS = 10


@dataclass(frozen=True, slots=True)
class ItemPrior:
    """A normal distribution of (log a, b) over the items of a school.

    Parameters
    ----------
    mean_log_a, mean_b : float
        Means; log a is a natural log, b is in logits.
    var_log_a, cov_log_a_b, var_b : float
        The covariance matrix.

    Raises
    ------
    InvalidSettings
        If a number is not finite, or these are not the moments of a distribution.

    Examples
    --------
    >>> SHIPPED_ITEM_PRIOR
    ItemPrior(mean_log_a=0.0, mean_b=0.0, var_log_a=0.1225, cov_log_a_b=0.0, var_b=1.0)
    """

    mean_log_a: float
    mean_b: float
    var_log_a: float
    cov_log_a_b: float
    var_b: float

    def __post_init__(self) -> None:
        values = (self.mean_log_a, self.mean_b, self.var_log_a, self.cov_log_a_b, self.var_b)
        if not np.all(np.isfinite(values)):
            raise InvalidSettings(f"the item prior is {values}; give finite numbers")
        for name, variance in (("var_log_a", self.var_log_a), ("var_b", self.var_b)):
            if not 1e-6 <= variance <= 1e6:
                raise InvalidSettings(f"{name} is {variance}; give a variance between 1e-6 and 1e6")
        if self.cov_log_a_b**2 > 0.999 * self.var_log_a * self.var_b:
            raise InvalidSettings(
                f"cov_log_a_b is {self.cov_log_a_b} with variances {self.var_log_a} and {self.var_b}; "
                "need a covariance matrix that is positive definite"
            )

    @property
    def precision(self) -> tuple[float, float, float]:
        """The inverse of the covariance: its entries for (log a, log a), (log a, b), (b, b)."""
        determinant = self.var_log_a * self.var_b - self.cov_log_a_b**2
        return self.var_b / determinant, -self.cov_log_a_b / determinant, self.var_log_a / determinant


# b is as wide as the offset model's N(0, 1). The standard deviation of log a is 0.35: real and simulated schools give 0.2
# to 0.35, and the wide end costs items with many answers less.
SHIPPED_ITEM_PRIOR = ItemPrior(0.0, 0.0, 0.1225, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class ItemMoments:
    """What a group of items contributes to the prior: sums over their posteriors under the shipped prior.

    Parameters
    ----------
    n_items : int
        Number of items.
    log_a, b : float
        Sums of the modes.
    log_a_log_a, log_a_b, b_b : float
        Sums of the covariances and of the products of the modes.

    Examples
    --------
    >>> ItemMoments.of(np.array([[0.5, 1.0]]), np.array([[0.25, 0.0, 0.5]]))
    ItemMoments(n_items=1, log_a=0.5, b=1.0, log_a_log_a=0.5, log_a_b=0.5, b_b=1.5)
    """

    n_items: int = 0
    log_a: float = 0.0
    b: float = 0.0
    log_a_log_a: float = 0.0
    log_a_b: float = 0.0
    b_b: float = 0.0

    @classmethod
    def of(cls, modes: npt.NDArray[np.float64], covariances: npt.NDArray[np.float64]) -> "ItemMoments":
        """The moments from modes[n_items, 2] and covariances[n_items, 3]: (log a, log a), (log a, b), (b, b)."""
        log_a, b = modes.T
        products = covariances + np.stack([log_a * log_a, log_a * b, b * b], axis=1)
        return cls(len(modes), float(log_a.sum()), float(b.sum()), *products.sum(axis=0).tolist())


def learn_item_prior(moments: Iterable[ItemMoments]) -> ItemPrior:
    """The school's prior, from the moments of its skills.

    Parameters
    ----------
    moments : iterable of ItemMoments
        One for each skill, or for any other group of items. Without any, the result is the shipped prior.

    Returns
    -------
    ItemPrior
        The same to the last bit for any order of the skills.

    Raises
    ------
    InvalidSettings
        If the moments are not those of any items.

    Examples
    --------
    >>> learn_item_prior([]) == SHIPPED_ITEM_PRIOR
    True
    >>> hard = ItemMoments.of(np.tile([0.0, 0.5], (90, 1)), np.tile([0.1225, 0.0, 0.02], (90, 1)))
    >>> learned = learn_item_prior([hard])
    >>> round(learned.mean_b, 4), round(learned.var_b, 4), round(learned.var_log_a, 4)
    (0.45, 0.1405, 0.1225)
    """
    some = [of_skill for of_skill in moments if of_skill.n_items]
    if not some:
        return SHIPPED_ITEM_PRIOR
    shipped = SHIPPED_ITEM_PRIOR
    pseudo = ItemMoments.of(
        np.array([[shipped.mean_log_a, shipped.mean_b]] * SHIPPED_ITEMS),
        np.array([[shipped.var_log_a, shipped.cov_log_a_b, shipped.var_b]] * SHIPPED_ITEMS),
    )
    # fsum rounds once, so the result does not depend on the order of the skills.
    n, *sums = (math.fsum(column) for column in zip(*map(astuple, [pseudo, *some]), strict=True))
    log_a, b, log_a_log_a, log_a_b, b_b = (value / n for value in sums)
    # Converts squares about 0 to squares about the mean. log a and b are of order 1, so little precision is lost.
    return ItemPrior(log_a, b, log_a_log_a - log_a * log_a, log_a_b - log_a * b, b_b - b * b)
