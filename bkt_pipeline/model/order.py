"""Finds answers with equal times, whose order is uncertain."""

import numpy as np

from bkt_pipeline.model.attempts import AttemptWindow

__all__ = ["may_hold_repeats", "tied_answers"]


def tied_answers(window: AttemptWindow) -> int:
    """Count the answers whose position in their student's sequence cannot be determined from the times.

    These are answers of one student with the same time, some right and some wrong. If answers with the same time are
    all right or all wrong, every order gives the same sequence, and they do not count. The caller decides whether
    something else determines the order, such as a numeric key.

    Parameters
    ----------
    window : AttemptWindow

    Returns
    -------
    int
        0 if the times alone determine the sequences.

    Examples
    --------
    >>> from datetime import datetime, timezone
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    >>> us = int(noon.timestamp()) * 1_000_000
    >>> times = np.array([us - 9, us - 9, us - 5, us - 5, us - 5])
    >>> tied_answers(AttemptWindow("a", ("s1",), np.array([0, 1, 1, 1, 1], np.uint8), times, np.array([0, 5]), noon, 30))
    2
    """
    if not window.n_attempts:
        return 0
    begins = np.concatenate([[True], np.diff(window.answered_at) != 0])
    begins[window.offsets[:-1]] = True
    starts = np.flatnonzero(begins)
    sizes = np.diff(np.append(starts, window.n_attempts))
    right = np.add.reduceat(window.responses.astype(np.int64), starts)
    return int(sizes[(right > 0) & (right < sizes)].sum())


def may_hold_repeats(window: AttemptWindow) -> bool:
    """Whether a student has two answers with the same time and grade, as a row that was stored twice would produce.

    The window does not contain the items, so only the database can tell whether such answers repeat a row. If the
    result is False, no row is repeated.

    Parameters
    ----------
    window : AttemptWindow

    Examples
    --------
    >>> from datetime import datetime, timezone
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    >>> times = np.array([1, 1, 2]) + int(noon.timestamp()) * 1_000_000 - 9
    >>> may_hold_repeats(AttemptWindow("a", ("s1",), np.array([0, 0, 1], np.uint8), times, np.array([0, 3]), noon, 30))
    True
    """
    # Among three answers with the same time, the two with equal grades need not be adjacent.
    same_time = np.diff(window.answered_at) == 0
    if window.n_students > 1:
        same_time[window.offsets[1:-1] - 1] = False
    same_grade = np.diff(window.responses.astype(np.int64)) == 0
    return bool((same_time & same_grade).any() or (same_time[1:] & same_time[:-1]).any())
