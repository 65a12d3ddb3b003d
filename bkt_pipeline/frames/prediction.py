"""Predicts every answer of a frame from the student's answers before it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bkt_pipeline.frames.attempts import Answers, read_answers
from bkt_pipeline.frames.parameters import params_of
from bkt_pipeline.model.bkt import replay

__all__ = ["predict", "predicted"]


def predict(
    df: pd.DataFrame, params: pd.DataFrame, *, columns: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """P(known) and P(right) at every answer, from the student's answers to the skill before it.

    Parameters
    ----------
    df : DataFrame
        One row for each graded answer, as `windows` describes it.
    params : DataFrame
        The columns `p_l0`, `p_transit`, `p_slip` and `p_guess`, and the skill's id in a column `skill_id` or in the
        index, as `fit` and ``bkt-pipeline export`` give them. It may have more skills than `df`.
    columns : mapping, optional
        As in `windows`.

    Returns
    -------
    DataFrame
        With the index and the order of `df`, and the columns

        - `opportunity`: the number of the answer, from 1, among the student's answers to the skill.
        - `p_known`, `p_right`: probabilities before the answer.
        - `p_known_after`: P(known) after the answer and the chance to learn from it.

    Raises
    ------
    InvalidAttempts
        If a column is missing or a row is invalid; see `windows`.
    InvalidParams
        If a skill or a column is missing in `params`, or a value is outside the model's bounds.

    References
    ----------
    Corbett & Anderson (1994), DOI 10.1007/BF01099821.

    Examples
    --------
    >>> df = pd.DataFrame({"student_id": [*"aabb"], "skill_id": "halves", "is_correct": [0, 1, 1, 1]})
    >>> params = pd.DataFrame({"p_l0": 0.3, "p_transit": 0.1, "p_slip": 0.1, "p_guess": 0.2}, index=["halves"])
    >>> predict(df, params).round(3)
       opportunity  p_known  p_right  p_known_after
    0            1    0.300    0.410          0.146
    1            2    0.146    0.302          0.491
    2            1    0.300    0.410          0.693
    3            2    0.693    0.685          0.919
    """
    return predicted(read_answers(df, columns), params).set_index(df.index)


def predicted(answers: Answers, params: pd.DataFrame) -> pd.DataFrame:
    """The same for answers that were read already; the index is the number of the row."""
    opportunity = np.empty(answers.n_rows, np.int64)
    known, right, after = (np.empty(answers.n_rows) for _ in range(3))
    for key, each in params_of(params, answers.windows).items():
        window, rows = answers.windows[key], answers.rows[key]
        begins = np.repeat(window.offsets[:-1], np.diff(window.offsets))
        opportunity[rows] = np.arange(1, rows.size + 1) - begins
        known[rows], after[rows] = replay.replay(window.responses, window.offsets, each)
        right[rows] = replay.predict(known[rows], each)
    return pd.DataFrame(
        {"opportunity": opportunity, "p_known": known, "p_right": right, "p_known_after": after}
    )
