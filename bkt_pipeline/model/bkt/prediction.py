"""How well parameters predict answers that they were not fitted to. Each answer is predicted from the ones before it."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.replay import predict, replay
from bkt_pipeline.model.params import BktParams

__all__ = [
    "are_held_out",
    "auc",
    "aucs",
    "hold_out",
    "of_students",
    "predictions",
    "rmse",
    "rmses",
    "wilson_interval",
]

Floats = npt.NDArray[np.float64]
HELD_OUT_OF = 5  # one student in five


def predictions(window: AttemptWindow, params: BktParams) -> Floats:
    """P(right) of every answer, given the student's answers before it.

    Parameters
    ----------
    window : AttemptWindow
        The answers.
    params : BktParams
        The parameters that predict.

    Returns
    -------
    float64 array, shape (n_attempts,)
        In the order of ``window.responses``.

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> params = BktParams(0.3, 0.1, 0.1, 0.2)
    >>> predictions(simulate(params, n_students=1, seed=1, lengths=3), params).round(3)
    array([0.41 , 0.302, 0.544])
    """
    before, _ = replay(window.responses, window.offsets, params)
    return predict(before, params)


def hold_out(window: AttemptWindow) -> tuple[AttemptWindow, AttemptWindow]:
    """Split a window into four fifths of the students and the rest. A student is on the same side every night.

    Parameters
    ----------
    window : AttemptWindow

    Returns
    -------
    (AttemptWindow, AttemptWindow)
        Either may be empty if there are few students.

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> fitted, held = hold_out(simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=1000, seed=1))
    >>> fitted.n_students, held.n_students
    (778, 222)
    """
    held = are_held_out(window.student_ids)
    return of_students(window, ~held), of_students(window, held)


def of_students(window: AttemptWindow, chosen: npt.NDArray[np.bool_]) -> AttemptWindow:
    """The part of a window that belongs to some of its students.

    Parameters
    ----------
    window : AttemptWindow
    chosen : bool array, shape (n_students,)

    Returns
    -------
    AttemptWindow

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> window = simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=3, seed=1, lengths=4)
    >>> of_students(window, np.array([True, False, True])).n_attempts
    8
    """
    lengths = np.diff(window.offsets)
    answers = np.repeat(chosen, lengths)
    return AttemptWindow(
        window.skill_id,
        tuple(student for student, is_chosen in zip(window.student_ids, chosen, strict=True) if is_chosen),
        window.responses[answers],
        window.answered_at[answers],
        np.concatenate([[0], np.cumsum(lengths[chosen])]).astype(np.int64),
        window.as_of,
        window.window_days,
        sequences=window.sequences,
    )


def are_held_out(student_ids: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which students are held out to evaluate parameters: one in five, the same ones every night.

    Parameters
    ----------
    student_ids : sequence of str, length n_students

    Returns
    -------
    bool array, shape (n_students,)

    Examples
    --------
    >>> are_held_out([f"s{number}" for number in range(8)])
    array([False, False, False, False, False, False,  True, False])
    """
    return np.fromiter(map(_is_held_out, student_ids), np.bool_, len(student_ids))


# A student usually answers several skills of a night.
@lru_cache(maxsize=2**14)
def _is_held_out(student_id: str) -> bool:
    digest = blake2b(student_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_OF == 0


def wilson_interval(right: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Wilson's 95% interval of a success rate, which stays between 0 and 1.

    Parameters
    ----------
    right, n : array of numbers, same shape
        Right answers, and all of them (at least one).

    Returns
    -------
    low, high : float64 arrays

    References
    ----------
    Wilson (1927), DOI 10.1080/01621459.1927.10502953.

    Examples
    --------
    >>> low, high = wilson_interval(np.array([0, 8]), np.array([10, 10]))
    >>> low.round(3), high.round(3)
    (array([0.  , 0.49]), array([0.278, 0.943]))
    """
    z = 1.96
    rate = right / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n**2)) / (1 + z * z / n)
    return np.clip(middle - half, 0.0, 1.0), np.clip(middle + half, 0.0, 1.0)


def auc(responses: npt.NDArray[np.uint8], predicted: Floats) -> float | None:
    """Area under the ROC curve: how often a right answer had a higher prediction than a wrong one.

    Parameters
    ----------
    responses : uint8 array, shape (n,)
    predicted : float64 array, shape (n,)
        Equal predictions count half.

    Returns
    -------
    float or None
        None if all answers are equal.

    Examples
    --------
    >>> auc(np.array([0, 1, 0, 1], np.uint8), np.array([0.2, 0.9, 0.6, 0.6]))
    0.875
    """
    return aucs(responses, predicted[None])[0]


def aucs(responses: npt.NDArray[np.uint8], predicted: Floats) -> list[float | None]:
    """The same for several predictions of the same answers, shape (n_predictions, n)."""
    is_right = responses == 1
    right = int(np.count_nonzero(is_right))
    wrong = responses.size - right
    if not right or not wrong:
        return [None] * len(predicted)
    places = [
        (lower.searchsorted(higher, "left"), lower.searchsorted(higher, "right"))
        for lower, higher in zip(np.sort(predicted[:, ~is_right]), predicted[:, is_right], strict=True)
    ]
    areas: list[float | None] = (np.array(places).sum(axis=(1, 2)) / (2.0 * right * wrong)).tolist()
    return areas


def rmse(responses: npt.NDArray[np.uint8], predicted: Floats) -> float:
    """Root mean squared error of the predictions.

    Parameters
    ----------
    responses : uint8 array, shape (n,)
        At least one.
    predicted : float64 array, shape (n,)

    Returns
    -------
    float

    Examples
    --------
    >>> rmse(np.array([0, 1], np.uint8), np.array([0.5, 0.5]))
    0.5
    """
    return rmses(responses, predicted[None])[0]


def rmses(responses: npt.NDArray[np.uint8], predicted: Floats) -> list[float]:
    """The same for several predictions of the same answers, shape (n_predictions, n)."""
    errors: list[float] = np.sqrt(((responses - predicted) ** 2).sum(axis=1) / responses.size).tolist()
    return errors
