"""Answers to many items in three flat arrays, checked before anything is fitted to them."""

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidAttempts

# Theta is a logit; a value beyond this is an error, not an ability.
THETA_LIMIT = 100.0


def checked(
    theta: npt.ArrayLike, responses: npt.ArrayLike, offsets: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Theta, responses and offsets, converted to the types that the fits use; a response other than 0 and 1 becomes 2.

    Parameters
    ----------
    theta : float64[n_answers]
    responses : uint8[n_answers], or bool or any integer type
    offsets : int64[n_items + 1]
        Item i's answers are those from offsets[i] up to but not including offsets[i + 1].

    Returns
    -------
    float64[n_answers], uint8[n_answers], int64[n_items + 1]

    Raises
    ------
    InvalidAttempts
        If the shapes, types or offsets of the arrays do not fit together.

    Examples
    --------
    >>> checked([0.1, 0.2], [True, False], [0, 1, 2])
    (array([0.1, 0.2]), array([1, 0], dtype=uint8), array([0, 1, 2]))
    """
    try:
        theta = np.ascontiguousarray(theta, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidAttempts("theta is not an array of numbers; give float64[n_answers]") from error
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
