"""The offset model: one number per item, how much easier or harder it is than Bayesian Knowledge Tracing expects.

    P(right) = 1 / (1 + exp(-(eta + d))),   d ~ N(0, 1)

eta is the logit of the P(right) that the skill's parameters predict before the answer (`curve.ability`). With d = 0 the
prediction is that of BKT alone. The prior keeps d near 0 until the answers contradict it, so the model is safe from an
item's first answer on. It is the Rasch model with known ability, or a BKT model with item difficulty that needs no
separate parameters for each state. As an item response curve it has a = 1 and b = -d.

References
----------
Rasch, G. (1960). Probabilistic models for some intelligence and attainment tests. Danish Institute for Educational
Research.

Pardos, Z. A. & Heffernan, N. T. (2011). KT-IDEM: Introducing item difficulty to the knowledge tracing model. UMAP 2011,
243-254. https://doi.org/10.1007/978-3-642-22362-4_21

Bach, F. (2010). Self-concordant analysis for logistic regression. Electronic Journal of Statistics 4, 384-414.
https://doi.org/10.1214/09-EJS521
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.irt.layout import THETA_LIMIT, checked

__all__ = ["SD_OFFSET", "OffsetFits", "fit_offsets"]

# Standard deviation of the prior on d, in logits.
SD_OFFSET = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class OffsetFits:
    """The offsets of many items.

    Attributes
    ----------
    d : float64[n_items]
        Offsets (logits): the posterior modes. A positive offset means easier than the skill's average. NaN for an
        item without answers, or with an invalid answer or eta.
    se : float64[n_items]
        Standard errors (logits): 1 / sqrt of the posterior's curvature at d, never above the prior's 1. NaN if d is
        NaN.
    """

    d: npt.NDArray[np.float64]
    se: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return self.d.size

    def only(self, chosen: npt.NDArray[np.bool_] | slice) -> "OffsetFits":
        """The offsets of the chosen items, bool[n_items] or a slice."""
        return OffsetFits(self.d[chosen], self.se[chosen])


def fit_offsets(eta: npt.ArrayLike, responses: npt.ArrayLike, offsets: npt.ArrayLike) -> OffsetFits:
    """Fit the offset of every item that was answered at least once.

    Parameters
    ----------
    eta : float64[n_answers]
        Ability just before each answer (logits), item after item.
    responses : uint8[n_answers]
        1 right, 0 wrong; bool and any integer type are accepted too.
    offsets : int64[n_items + 1]
        Item i's answers are those from offsets[i] up to but not including offsets[i + 1]. Their order does not matter.

    Returns
    -------
    OffsetFits
        Arrays of n_items.

    Raises
    ------
    InvalidAttempts
        If the shapes, types or offsets of the arrays do not fit together.

    Notes
    -----
    The log posterior is strictly concave, so the mode is unique. Newton's step s is shortened to log(1 + |s|): the
    curvature of a sum of logistic losses changes by at most a factor e^x over a distance x (Bach 2010), so the shortened
    step never passes the mode. Near the mode the shortening has no effect.

    Examples
    --------
    Three items at eta = 0: eight of ten answers right, one answer right, no answer.

    >>> fits = fit_offsets(np.zeros(11), [1] * 8 + [0] * 2 + [1], [0, 10, 11, 11])
    >>> fits.d.round(3), fits.se.round(3)
    (array([0.897, 0.401,   nan]), array([0.572, 0.898,   nan]))
    """
    eta, answers, offsets = checked(eta, responses, offsets)
    from bkt_pipeline.model.kernels import newton

    _, _, eta_usable, responses_usable = newton.describe(eta, answers, offsets, THETA_LIMIT)
    wanted = eta_usable & responses_usable & (np.diff(offsets) > 0)
    d, curvature = newton.fit_offsets(eta, answers, offsets, wanted, SD_OFFSET**-2)
    return OffsetFits(d, 1.0 / np.sqrt(curvature))
