"""Observed and predicted success: by opportunity, and by prediction."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.frames.attempts import read_answers
from bkt_pipeline.frames.parameters import params_of
from bkt_pipeline.frames.prediction import predicted
from bkt_pipeline.model.bkt import curves
from bkt_pipeline.model.bkt.prediction import wilson_interval

__all__ = ["calibration_curve", "learning_curve"]


def learning_curve(
    df: pd.DataFrame, params: pd.DataFrame, *, columns: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """The share of right answers at each opportunity, observed and predicted.

    Both shares are of the same students, those who reached the opportunity. The prediction is the mean of each student's
    P(right) given the answers before. Few students reach the last opportunities, so plot those with enough `students`.

    Parameters
    ----------
    df : DataFrame
        One row for each graded answer, as `windows` describes it.
    params : DataFrame
        As in `predict`.
    columns : mapping, optional
        As in `windows`.

    Returns
    -------
    DataFrame
        One row for each skill and opportunity, the two levels of the index, with the columns

        - `students`: how many reached the opportunity.
        - `observed`, `predicted`: shares of right answers.
        - `low`, `high`: Wilson's 95% interval of the observed share.

    Raises
    ------
    InvalidAttempts, InvalidParams
        As in `predict`.

    Examples
    --------
    >>> df = pd.DataFrame({"student_id": [*"aabbc"], "skill_id": "halves", "is_correct": [0, 1, 1, 1, 0]})
    >>> params = pd.DataFrame({"p_l0": 0.3, "p_transit": 0.1, "p_slip": 0.1, "p_guess": 0.2}, index=["halves"])
    >>> learning_curve(df, params).loc["halves"].round(2)
                 students  observed   low  high  predicted
    opportunity
    1                   3      0.33  0.06  0.79       0.41
    2                   2      1.00  0.34  1.00       0.49
    """
    answers = read_answers(df, columns)
    found = {
        answers.skills[key]: asdict(curves.learning_curve(answers.windows[key], each))
        for key, each in params_of(params, answers.windows).items()
    }
    by_skill = {
        skill: pd.DataFrame(curve, pd.RangeIndex(1, len(curve["students"]) + 1, name="opportunity"))
        for skill, curve in found.items()
    }
    return pd.concat(by_skill, names=["skill_id"]).sort_index(level="skill_id", sort_remaining=False)


def calibration_curve(
    df: pd.DataFrame, params: pd.DataFrame, *, bins: int = 10, columns: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """How often answers are right that were predicted to be right with about the same probability.

    Give answers of students that the parameters were not fitted to: predictions of the fitted ones look better than
    they are.

    Parameters
    ----------
    df : DataFrame
        One row for each graded answer, as `windows` describes it.
    params : DataFrame
        As in `predict`.
    bins : int
        The answers, sorted by their prediction, are divided into so many parts of about the same size. Equal
        predictions stay together, so there may be fewer.
    columns : mapping, optional
        As in `windows`.

    Returns
    -------
    DataFrame
        One row for each part, from the lowest to the highest prediction, with the columns

        - `answers`: how many.
        - `observed`: share of right answers; `low`, `high`: Wilson's 95% interval of it.
        - `predicted`: mean of P(right).

    Raises
    ------
    InvalidAttempts, InvalidParams
        As in `predict`.
    InvalidSettings
        If `bins` is below 1.

    Examples
    --------
    >>> df = pd.DataFrame({"student_id": [*"aabb"], "skill_id": "halves", "is_correct": [0, 1, 1, 1]})
    >>> params = pd.DataFrame({"p_l0": 0.3, "p_transit": 0.1, "p_slip": 0.1, "p_guess": 0.2}, index=["halves"])
    >>> calibration_curve(df, params, bins=2).round(2)
         answers  observed   low  high  predicted
    bin
    0          1      1.00  0.21  1.00        0.3
    1          3      0.67  0.21  0.94        0.5
    """
    if not bins >= 1:
        raise InvalidSettings(f"bins is {bins}; need at least 1")
    answers = read_answers(df, columns)
    guesses = predicted(answers, params)
    middle = guesses["p_right"].rank(method="average") - 0.5
    part = (middle * bins / answers.n_rows).astype("int64")
    right = np.empty(answers.n_rows)
    for key, rows in answers.rows.items():
        right[rows] = answers.windows[key].responses
    groups = pd.DataFrame({"right": right, "predicted": guesses["p_right"]}).groupby(part)
    count, total = groups.size().to_numpy(), groups["right"].sum().to_numpy()
    low, high = wilson_interval(total, count)
    return pd.DataFrame(
        {
            "answers": count,
            "observed": total / count,
            "low": low,
            "high": high,
            "predicted": groups["predicted"].mean().to_numpy(),
        },
        index=pd.RangeIndex(len(count), name="bin"),
    )
