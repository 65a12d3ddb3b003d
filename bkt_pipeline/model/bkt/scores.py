"""Compares the estimators: each is fitted to four fifths of the students and evaluated on the rest."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.curves import Reliability, reliabilities
from bkt_pipeline.model.bkt.grid import DEFAULT_GRID, Grid
from bkt_pipeline.model.bkt.likelihood import log_likelihood, log_likelihood_of
from bkt_pipeline.model.bkt.optimum import COARSE, lattices
from bkt_pipeline.model.bkt.polish import polish
from bkt_pipeline.model.bkt.pooled import pooled
from bkt_pipeline.model.bkt.prediction import are_held_out, auc, aucs, predictions, rmse, rmses
from bkt_pipeline.model.bkt.prior import SHIPPED_PRIOR, SchoolPrior
from bkt_pipeline.model.bkt.replay import predict, replayed
from bkt_pipeline.model.bkt.search import search, surfaces_of
from bkt_pipeline.model.params import SAFE_DEFAULT, BktParams

__all__ = ["HeldOut", "Scores", "Surfaces", "estimates", "held_out_scores", "score", "scores_of", "sides"]

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
    """Log-likelihoods of some students' answers, in nats.

    Parameters
    ----------
    answers : DistinctSequences
        Their sequences.
    grid : float64 array, shape ``grid.shape``, or None
        At the points of the grid; None if it has no valid point or there are no answers.
    coarse : float64 array, shape (n_prior, n_transit, n_slip, n_guess)
        On the lattice `optimum.COARSE`.
    """

    answers: DistinctSequences
    grid: Floats | None
    coarse: Floats

    @classmethod
    def of(
        cls, window: AttemptWindow, grid: Grid, held: npt.NDArray[np.bool_] | None = None
    ) -> tuple["Surfaces", "Surfaces"]:
        """Those of all students, and those without the ones that are held out, in one pass over their sequences."""
        answers = DistinctSequences.of(window, held)
        coarse = lattices(answers, COARSE)
        on_grid = surfaces_of(answers, grid) if grid.n_points and answers.counts.size else None
        if held is None:
            everyone = cls(answers, None if on_grid is None else on_grid[0], coarse[0])
            return everyone, everyone
        fitted = cls(answers.side(0), None if on_grid is None else on_grid[0], coarse[0])
        total = None if on_grid is None else on_grid[0] + on_grid[1]
        return cls(answers.together(), total, coarse[0] + coarse[1]), fitted


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
        Those of the students to fit, if they are not all students of the window or already available.

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
    known = surfaces or Surfaces.of(window, grid)[0]
    winner, _ = search(window.responses, window.offsets, known.answers, grid, known.grid)
    finer = winner
    if winner.log_likelihood is not None:
        finer = polish(window, winner, grid=grid, answers=known.answers, coarse=known.coarse)
    pool = pooled(window, prior, answers=known.answers, coarse=known.coarse)
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
    predicted = predictions(window, params)
    return Scores(
        log_likelihood(window, params) / window.n_attempts,
        auc(window.responses, predicted),
        rmse(window.responses, predicted),
    )


def held_out_scores(
    window: AttemptWindow,
    prior: SchoolPrior = SHIPPED_PRIOR,
    grid: Grid = DEFAULT_GRID,
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
    held = sides(window)
    return None if held is None else scores_of(window, held, Surfaces.of(window, grid, held)[1], prior, grid)


def sides(window: AttemptWindow) -> npt.NDArray[np.bool_] | None:
    """Which students are held out, shape (n_students,); None if one side of the split has no students."""
    held = are_held_out(window.student_ids)
    return held if 0 < np.count_nonzero(held) < held.size else None


def scores_of(
    window: AttemptWindow, held: npt.NDArray[np.bool_], fitted: Surfaces, prior: SchoolPrior, grid: Grid
) -> HeldOut:
    """As `held_out_scores`, with the surfaces of the students that are not held out."""
    lengths = np.diff(window.offsets)
    is_held = np.repeat(held, lengths)
    responses, others = window.responses[is_held], window.responses[~is_held]
    offsets = np.append(0, np.cumsum(lengths[held]))
    students = np.flatnonzero(held).astype(np.int32)
    params = estimates(window, prior, grid, fitted)
    least = 0.5 / others.size
    rate = min(max(int(np.count_nonzero(others)) / others.size, least), 1.0 - least)
    predicted = np.empty((len(params) + 1, responses.size))
    for row, each in zip(predicted, params.values(), strict=False):
        row[:] = predict(replayed(responses, offsets, each)[0], each)
    predicted[-1] = rate
    right = int(np.count_nonzero(responses))
    log_likelihoods = [log_likelihood_of(window, each, students) for each in params.values()]
    log_likelihoods.append(right * math.log(rate) + (responses.size - right) * math.log(1.0 - rate))
    names = [*params, "constant"]
    measures = zip(
        names, log_likelihoods, aucs(responses, predicted), rmses(responses, predicted), strict=True
    )
    return HeldOut(
        fitted_students=held.size - students.size,
        fitted_attempts=others.size,
        students=students.size,
        attempts=responses.size,
        success_rate=rate,
        params=params,
        scores={name: Scores(nats / responses.size, area, error) for name, nats, area, error in measures},
        reliability=dict(zip(params, reliabilities(responses, predicted[:-1]), strict=True)),
    )
