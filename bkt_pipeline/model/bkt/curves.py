"""Observed beside predicted success: by opportunity, and by prediction."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.prediction import predictions, wilson_interval
from bkt_pipeline.model.params import BktParams

__all__ = [
    "BINS",
    "LearningCurve",
    "Reliability",
    "expected_curve",
    "learning_curve",
    "pool_reliability",
    "reliabilities",
    "reliability",
]

Floats = npt.NDArray[np.float64]
BINS = 10  # of P(right), of equal width


@dataclass(frozen=True, slots=True, eq=False)
class LearningCurve:
    """The share of right answers at each opportunity, the first one first.

    Parameters
    ----------
    students : int64 array, shape (n_opportunities,)
        How many students reached the opportunity.
    observed, low, high : float64 arrays of the same shape
        The share of their answers that are right, and Wilson's 95% interval of it.
    predicted : float64 array of the same shape
        The mean of P(right) given each student's earlier answers, so it is of the same students; NaN without parameters.
    """

    students: npt.NDArray[np.int64]
    observed: Floats
    low: Floats
    high: Floats
    predicted: Floats


def learning_curve(window: AttemptWindow, params: BktParams | None) -> LearningCurve:
    """The learning curve of a window.

    Parameters
    ----------
    window : AttemptWindow
    params : BktParams or None
        The parameters that predict.

    Returns
    -------
    LearningCurve
        Of no opportunities if the window is empty.

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> params = BktParams(0.3, 0.1, 0.1, 0.2)
    >>> curve = learning_curve(simulate(params, n_students=200, seed=1, lengths=3), params)
    >>> curve.students, curve.observed.round(2), curve.predicted.round(2)
    (array([200, 200, 200]), array([0.43, 0.44, 0.49]), array([0.41, 0.47, 0.5 ]))
    """
    opportunity = np.arange(window.n_attempts) - np.repeat(window.offsets[:-1], np.diff(window.offsets))
    students = np.bincount(opportunity)
    right = np.bincount(opportunity, window.responses).astype(np.float64)
    low, high = wilson_interval(right, students.astype(np.float64))
    predicted = np.full(students.size, np.nan)
    if params is not None and students.size:
        predicted = np.bincount(opportunity, predictions(window, params)) / students
    return LearningCurve(students, right / students, low, high, predicted)


def expected_curve(params: BktParams, n: int) -> Floats:
    """P(right) at each of the first opportunities, of a student of whom no answer is known.

    Parameters
    ----------
    params : BktParams
    n : int
        How many opportunities.

    Returns
    -------
    float64 array, shape (n,)

    Examples
    --------
    >>> expected_curve(BktParams(0.3, 0.1, 0.1, 0.2), 3).round(3)
    array([0.41 , 0.459, 0.503])
    """
    unknown = (1.0 - params.p_l0) * (1.0 - params.p_transit) ** np.arange(n)
    return (1.0 - unknown) * (1.0 - params.p_slip) + unknown * params.p_guess


@dataclass(frozen=True, slots=True)
class Reliability:
    """Answers in `BINS` bins of the P(right) that was predicted for them, from the lowest to the highest.

    Parameters
    ----------
    answers, right : tuples of int
        How many answers, and how many of them are right.
    predicted : tuple of float
        The sum of their P(right).
    """

    answers: tuple[int, ...] = (0,) * BINS
    right: tuple[int, ...] = (0,) * BINS
    predicted: tuple[float, ...] = (0.0,) * BINS

    @property
    def gap(self) -> float | None:
        """The mean distance of observed and predicted share over the answers; None without answers.

        It is the expected calibration error of Naeini, Cooper & Hauskrecht (2015), DOI 10.1609/aaai.v29i1.9602.
        """
        apart = (abs(right - predicted) for right, predicted in zip(self.right, self.predicted, strict=True))
        return sum(apart) / sum(self.answers) if any(self.answers) else None


def reliability(responses: npt.NDArray[np.uint8], predicted: Floats) -> Reliability:
    """Count answers by the P(right) that was predicted for them.

    Parameters
    ----------
    responses : uint8 array, shape (n,)
    predicted : float64 array, shape (n,)

    Returns
    -------
    Reliability

    Examples
    --------
    >>> found = reliability(np.array([0, 1, 1], np.uint8), np.array([0.25, 0.25, 1.0]))
    >>> found.answers, found.right
    ((0, 0, 2, 0, 0, 0, 0, 0, 0, 1), (0, 0, 1, 0, 0, 0, 0, 0, 0, 1))
    """
    return reliabilities(responses, predicted[None])[0]


def reliabilities(responses: npt.NDArray[np.uint8], predicted: Floats) -> list[Reliability]:
    """The same for several predictions of the same answers, shape (n_predictions, n)."""
    shape = len(predicted), BINS
    place = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
    place += BINS * np.arange(len(predicted))[:, None]
    right = place[:, responses == 1]
    n = len(predicted) * BINS
    return [
        Reliability(tuple(answers), tuple(rights), tuple(sums))
        for answers, rights, sums in zip(
            np.bincount(place.ravel(), minlength=n).reshape(shape).tolist(),
            np.bincount(right.ravel(), minlength=n).reshape(shape).tolist(),
            np.bincount(place.ravel(), predicted.ravel(), n).reshape(shape).tolist(),
            strict=True,
        )
    ]


def pool_reliability(skills: Iterable[Reliability]) -> Reliability:
    """The answers of all skills together.

    Parameters
    ----------
    skills : iterable of Reliability

    Returns
    -------
    Reliability

    Examples
    --------
    >>> one = reliability(np.array([1], np.uint8), np.array([0.25]))
    >>> pool_reliability([one, one]).answers
    (0, 0, 2, 0, 0, 0, 0, 0, 0, 0)
    """
    found = list(skills)

    def total(values: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
        return tuple(map(sum, zip(*values, strict=True))) or (0,) * BINS

    return Reliability(
        tuple(map(int, total(one.answers for one in found))),
        tuple(map(int, total(one.right for one in found))),
        total(one.predicted for one in found),
    )
