"""Compares the estimators: each is fitted to four fifths of the students and evaluated on the rest."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.curves import Reliability, reliability
from bkt_pipeline.model.bkt.grid import DEFAULT_GRID, Grid
from bkt_pipeline.model.bkt.likelihood import log_likelihood
from bkt_pipeline.model.bkt.optimum import COARSE, lattice
from bkt_pipeline.model.bkt.polish import polish
from bkt_pipeline.model.bkt.pooled import pooled
from bkt_pipeline.model.bkt.prediction import auc, hold_out, predictions, rmse
from bkt_pipeline.model.bkt.prior import SHIPPED_PRIOR, SchoolPrior
from bkt_pipeline.model.bkt.search import search, surface_of
from bkt_pipeline.model.params import SAFE_DEFAULT, BktParams

__all__ = ["HeldOut", "Scores", "Surfaces", "estimates", "held_out_scores", "score"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """How well answers were predicted, each from the ones before it.

    Parameters
    ----------
    log_likelihood : float
        Nats per answer; higher is better.
    auc : float or None
        Area under the ROC curve; None if all answers are equal.
    rmse : float
        Root mean squared error.
    """

    log_likelihood: float
    auc: float | None
    rmse: float


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The scores of all estimators on students that they were not fitted to.

    Parameters
    ----------
    fitted_students, fitted_attempts, students, attempts : int
        Numbers on each side of the split; the last two were held out.
    success_rate : float
        Of the fitted students, kept at least half an answer away from 0 and 1.
    params : mapping of str to BktParams
        "grid", "polished" and "pooled", with the log-likelihood of the fitted answers, and "default".
    scores : mapping of str to Scores
        For each of these, and for the "constant" success rate.
    reliability : mapping of str to Reliability
        For each of `params`: the held-out answers by the P(right) that was predicted for them.
    """

    fitted_students: int
    fitted_attempts: int
    students: int
    attempts: int
    success_rate: float
    params: Mapping[str, BktParams]
    scores: Mapping[str, Scores]
    reliability: Mapping[str, Reliability]


@dataclass(frozen=True, slots=True, eq=False)
class Surfaces:
    """Log-likelihoods of a window's answers, in nats.

    The answers of different students are independent, so what some of them add can be subtracted again.

    Parameters
    ----------
    grid : float64 array, shape ``grid.shape``, or None
        At the points of the grid; None if it has no valid point or the window no answers.
    coarse : float64 array, shape (n_prior, n_transit, n_slip, n_guess)
        On the lattice `optimum.COARSE`.
    """

    grid: Floats | None
    coarse: Floats

    def without(self, window: AttemptWindow, grid: Grid) -> "Surfaces":
        """The same without the answers of these students."""
        answers = DistinctSequences.of(window)
        left = None if self.grid is None else self.grid - surface_of(answers, grid)
        return Surfaces(left, self.coarse - lattice(answers, COARSE))


def estimates(
    window: AttemptWindow,
    prior: SchoolPrior = SHIPPED_PRIOR,
    grid: Grid = DEFAULT_GRID,
    surfaces: Surfaces | None = None,
) -> dict[str, BktParams]:
    """Every estimator's parameters for a window, and the default parameters, without their uncertainty.

    Parameters
    ----------
    window : AttemptWindow
    prior : SchoolPrior
        The prior of the pooled estimate.
    grid : Grid
        The points that the search evaluates.
    surfaces : Surfaces, optional
        The log-likelihoods of the window's answers where they are already known.

    Returns
    -------
    dict of str to BktParams
        With the keys "grid", "polished", "pooled" and "default".

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> found = estimates(simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=100, seed=1))
    >>> {name: round(params.p_transit, 3) for name, params in found.items()}
    {'grid': 0.1, 'polished': 0.095, 'pooled': 0.095, 'default': 0.1}
    """
    answers = DistinctSequences.of(window)
    coarse = surfaces.coarse if surfaces else lattice(answers, COARSE)
    winner, _ = search(window.responses, window.offsets, answers, grid, surfaces.grid if surfaces else None)
    finer = winner
    if winner.log_likelihood is not None:
        finer = polish(window, winner, grid=grid, answers=answers, coarse=coarse)
    pool = pooled(window, prior, answers=answers, coarse=coarse)
    return {"grid": winner, "polished": finer, "pooled": pool, "default": SAFE_DEFAULT}


def score(window: AttemptWindow, params: BktParams) -> Scores:
    """How well parameters predict a window's answers.

    Parameters
    ----------
    window : AttemptWindow
        At least one answer.
    params : BktParams

    Returns
    -------
    Scores

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> params = BktParams(0.3, 0.1, 0.1, 0.2)
    >>> scores = score(simulate(params, n_students=100, seed=1), params)
    >>> round(scores.log_likelihood, 3), round(scores.auc, 3), round(scores.rmse, 3)
    (-0.48, 0.828, 0.394)
    """
    return _score(window, params, predictions(window, params))


def _score(window: AttemptWindow, params: BktParams, predicted: Floats) -> Scores:
    return Scores(
        log_likelihood(window, params) / window.n_attempts,
        auc(window.responses, predicted),
        rmse(window.responses, predicted),
    )


def held_out_scores(
    window: AttemptWindow,
    prior: SchoolPrior = SHIPPED_PRIOR,
    grid: Grid = DEFAULT_GRID,
    surfaces: Surfaces | None = None,
) -> HeldOut | None:
    """Fit every estimator to four fifths of the students and score it on the others.

    A student is on the same side every night. A learned school prior also contains information from the held-out
    students, but they are a small part of the answers to all its skills.

    Parameters
    ----------
    window : AttemptWindow
    prior : SchoolPrior
        The prior of the pooled estimate.
    grid : Grid
        The points that the search evaluates.
    surfaces : Surfaces, optional
        The log-likelihoods of all students' answers where they are already known; faster for the same result.

    Returns
    -------
    HeldOut or None
        None if one side of the split has no students.

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> window = simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=100, seed=1)
    >>> found = held_out_scores(window)
    >>> {name: round(scores.log_likelihood, 3) for name, scores in found.scores.items()}
    {'grid': -0.547, 'polished': -0.552, 'pooled': -0.551, 'default': -0.55, 'constant': -0.762}
    """
    fitted, held = hold_out(window)
    if not fitted.n_students or not held.n_students:
        return None
    params = estimates(fitted, prior, grid, surfaces.without(held, grid) if surfaces else None)
    least = 0.5 / fitted.n_attempts
    rate = min(max(float(fitted.responses.mean()), least), 1.0 - least)
    predicted = {name: predictions(held, each) for name, each in params.items()}
    return HeldOut(
        fitted_students=fitted.n_students,
        fitted_attempts=fitted.n_attempts,
        students=held.n_students,
        attempts=held.n_attempts,
        success_rate=rate,
        params=params,
        scores={
            **{name: _score(held, params[name], each) for name, each in predicted.items()},
            "constant": _score_of_rate(held.responses, rate),
        },
        reliability={name: reliability(held.responses, each) for name, each in predicted.items()},
    )


def _score_of_rate(responses: npt.NDArray[np.uint8], rate: float) -> Scores:
    right = int(responses.sum())
    wrong = responses.size - right
    return Scores(
        (right * math.log(rate) + wrong * math.log(1.0 - rate)) / responses.size,
        0.5 if right and wrong else None,
        rmse(responses, np.full(responses.size, rate)),
    )
