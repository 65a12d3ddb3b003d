"""The pooled estimator: if a skill has few answers, the school's other skills add information."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.likelihood import exact_log_likelihood
from bkt_pipeline.model.bkt.optimum import COARSE, lattice, optimum, values_at
from bkt_pipeline.model.bkt.posterior import posteriors
from bkt_pipeline.model.bkt.prior import SHIPPED_PRIOR, Moments, SchoolPrior, prior_from_moments
from bkt_pipeline.model.params import BktParams

__all__ = ["learn_prior", "moments", "pooled"]


def pooled(
    window: AttemptWindow,
    prior: SchoolPrior = SHIPPED_PRIOR,
    *,
    answers: DistinctSequences | None = None,
    coarse: npt.NDArray[np.float64] | None = None,
) -> BktParams:
    """The mode of log-likelihood + log N(u; mu, Sigma), where u are the logits of (p_l0, p_transit, p_slip, p_guess).

    Slip and guess are at most 0.5 and slip + guess is below 1; each probability is at least 1e-4 from 0 and from 1. The
    mode is that of the logits' density.

    Parameters
    ----------
    window : AttemptWindow
        If it is empty, the result is the prior's mode.
    prior : SchoolPrior
        N(mu, Sigma).
    answers : DistinctSequences, optional
        The window's sequences, if they are already available; or those of the students to fit.
    coarse : float64 array, optional
        Log-likelihood on `optimum.COARSE`, if it is already available.

    Returns
    -------
    BktParams
        The log-likelihood in it is that of the answers alone, in nats.

    References
    ----------
    Efron & Morris (1973), DOI 10.1080/01621459.1973.10481350, for empirical Bayes; Corbett & Anderson (1994), DOI
    10.1007/BF01099821, for the model.

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> window = simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=3, seed=1)
    >>> [round(value, 2) for value in pooled(window).values]
    [0.25, 0.07, 0.23, 0.18]
    """
    answers = answers or DistinctSequences.of(window)
    if coarse is None:
        coarse = lattice(answers, COARSE)
    point = optimum(window, answers, coarse, prior)
    values = values_at(point)
    sequences = (window.responses, window.offsets, answers.students, answers.counts)
    return BktParams(*values, log_likelihood=exact_log_likelihood(*sequences, values))


def moments(window: AttemptWindow, prior: SchoolPrior = SHIPPED_PRIOR) -> Moments:
    """Mean and covariance of the posterior of the logits, computed on a lattice.

    Parameters
    ----------
    window : AttemptWindow
        If it is empty, the posterior is the prior, cut off at the parameters' bounds.
    prior : SchoolPrior

    Returns
    -------
    Moments
        In logits and squared logits.

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> window = simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=1000, seed=1)
    >>> found = moments(window)
    >>> (1 / (1 + np.exp(-found.mean))).round(2), np.sqrt(np.diag(found.covariance)).round(2)
    (array([0.3, 0.1, 0.1, 0.2]), array([0.09, 0.07, 0.06, 0.05]))
    """
    answers = DistinctSequences.of(window)
    coarse = lattice(answers, COARSE)
    mode = optimum(window, answers, coarse, prior)
    return posteriors(window, answers, coarse, mode, (prior,))[2][0].moments


def learn_prior(windows: Mapping[str, AttemptWindow]) -> SchoolPrior:
    """The prior of a school, from the answers to its skills: one EM step from the shipped prior.

    `prior_from_moments` has the formula. A night takes the moments that earlier nights stored (`SkillFit.moments`)
    instead of the windows.

    Parameters
    ----------
    windows : mapping of str to AttemptWindow
        By skill; the result does not depend on the keys or their order. Skills without answers are ignored.

    Returns
    -------
    SchoolPrior

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> truth = BktParams(0.8, 0.1, 0.1, 0.2)
    >>> windows = {str(n): simulate(truth, n_students=200, seed=n) for n in range(10)}
    >>> float(SHIPPED_PRIOR.mean[0]), round(float(learn_prior(windows).mean[0]), 1)
    (0.12, 0.7)
    """
    return prior_from_moments(moments(window) for window in windows.values() if window.n_students)
