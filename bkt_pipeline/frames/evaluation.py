"""Compares the estimators by cross-validation."""

import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bkt_pipeline.errors import InvalidAttempts, InvalidSettings
from bkt_pipeline.frames.attempts import Answers, read_answers
from bkt_pipeline.frames.fitting import Prior, chosen_prior
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.grid import DEFAULT_GRID, Grid
from bkt_pipeline.model.bkt.prediction import auc, of_students, predictions, rmse
from bkt_pipeline.model.bkt.prior import SHIPPED_PRIOR, SchoolPrior
from bkt_pipeline.model.bkt.scores import estimates
from bkt_pipeline.model.threads import thread_pool

__all__ = ["evaluate"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
SCORES = ["log_likelihood", "auc", "rmse", "attempts", "students"]
PREDICTORS = ("grid", "polished", "pooled", "default", "constant")


def evaluate(
    df: pd.DataFrame,
    folds: int = 5,
    by: str = "student",
    *,
    prior: Prior = SHIPPED_PRIOR,
    grid: Grid = DEFAULT_GRID,
    columns: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """How well each estimator predicts students that it was not fitted to.

    The students are divided into folds. The answers of each fold are predicted by parameters that were fitted to the
    other folds, each answer from the student's answers before it. A student is in the same fold for all skills, and the
    folds do not depend on the order of the rows.

    Parameters
    ----------
    df : DataFrame
        One row for each graded answer, as `windows` describes it.
    folds : int
        How many folds.
    by : str
        "student", or a column of `df` whose values also stay in one fold, such as the class or the school.
    prior : SchoolPrior or "school"
        The prior of the pooled estimate. "school" learns it in each fold, from the answers that are fitted.
    grid : Grid
        The points that the grid search evaluates.
    columns : mapping, optional
        As in `windows`.

    Returns
    -------
    DataFrame
        One row for each skill and estimator, the two levels of the index: "grid", "polished", "pooled", the "default"
        parameters and the "constant" success rate. A skill whose students are all in one fold is left out. The columns
        are

        - `log_likelihood`: nats per answer; higher is better.
        - `auc`: area under the ROC curve, mean over the folds; NaN if no fold has right and wrong answers.
        - `rmse`: root mean squared error.
        - `attempts`, `students`: how many were predicted.

    Raises
    ------
    InvalidAttempts
        If a column is missing, a row is invalid (see `windows`), or a student has several values of `by`.
    InvalidSettings
        If `folds` is not an integer from 2 to the number of students (or values of `by`), or `prior` is something else.

    Examples
    --------
    >>> answers = [(0, 0, 1, 1), (0, 1, 1, 1), (1, 1, 1, 1), (0, 0, 0, 1)] * 5
    >>> df = pd.DataFrame(
    ...     [(student, "halves", right) for student, each in enumerate(answers) for right in each],
    ...     columns=["student_id", "skill_id", "is_correct"],
    ... )
    >>> scores = evaluate(df)
    >>> scores["log_likelihood"].unstack().round(2)
    estimator  constant  default  grid  polished  pooled
    skill_id
    halves        -0.67    -0.59 -0.44     -0.42   -0.48
    >>> scores.groupby("estimator")["rmse"].mean().idxmin()
    'polished'
    """
    answers = read_answers(df, columns)
    fold = _fold_of_students(answers, df, folds, by)
    place = {student: number for number, student in enumerate(answers.student_ids)}
    held = {
        key: np.array([fold[place[student]] for student in window.student_ids])
        for key, window in answers.windows.items()
    }
    fold_of_answers = {
        key: np.repeat(folds_of, np.diff(answers.windows[key].offsets)) for key, folds_of in held.items()
    }
    found = {
        key: {name: np.full(window.n_attempts, math.nan) for name in PREDICTORS}
        for key, window in answers.windows.items()
    }
    with thread_pool() as pool:
        for number in range(folds):
            fitted = {
                key: of_students(window, held[key] != number) for key, window in answers.windows.items()
            }
            keys = [key for key in fitted if fitted[key].n_students and (held[key] == number).any()]
            learned = chosen_prior(prior, {key: fitted[key] for key in keys})
            jobs = {
                key: pool.submit(
                    _predict,
                    fitted[key],
                    of_students(answers.windows[key], held[key] == number),
                    learned,
                    grid,
                )
                for key in keys
            }
            for key, job in jobs.items():
                for name, values in job.result().items():
                    found[key][name][fold_of_answers[key] == number] = values
    return _scores(answers, fold_of_answers, found)


def _fold_of_students(answers: Answers, df: pd.DataFrame, folds: int, by: str) -> Ints:
    """The fold of each student: the groups are sorted by a hash of their text, and dealt out one by one."""
    if isinstance(folds, bool) or not isinstance(folds, int | np.integer) or folds < 2:
        raise InvalidSettings(f"folds is {folds!r}; need an integer from 2")
    texts, group = answers.student_ids, np.arange(len(answers.student_ids))
    if by != "student":
        texts, group = _groups(answers, df, by)
    if len(texts) < folds:
        what = "students" if by == "student" else f"values of {by}"
        raise InvalidSettings(f"folds is {folds}, but there are {len(texts)} {what}; use fewer folds")
    order = sorted(
        range(len(texts)), key=lambda number: blake2b(texts[number].encode(), digest_size=8).digest()
    )
    fold_of_group = np.empty(len(texts), np.int64)
    fold_of_group[order] = np.arange(len(texts)) % folds
    return fold_of_group[group]


def _groups(answers: Answers, df: pd.DataFrame, by: str) -> tuple[list[str], Ints]:
    """The distinct values of the column as text, and which of them each student has."""
    if by not in df.columns:
        there = ", ".join(map(str, df.columns))
        raise InvalidAttempts(
            f"there is no column {by!r} to divide by; the frame has {there}, or use 'student'"
        )
    missing = df[by].isna().to_numpy()
    if missing.any():
        raise InvalidAttempts(
            f"row {int(np.argmax(missing))}, counted from 0: {by} is missing; give each row one"
        )
    of_row, distinct = pd.factorize(df[by].map(str))
    group = np.empty(len(answers.student_ids), np.int64)
    group[answers.student] = of_row
    mixed = group[answers.student] != of_row
    if mixed.any():
        raise InvalidAttempts(
            f"row {int(np.argmax(mixed))}, counted from 0: another row of its student has a different {by}; "
            "each student must be in one group"
        )
    return distinct.tolist(), group


def _predict(
    fitted: AttemptWindow, held: AttemptWindow, prior: SchoolPrior, grid: Grid
) -> dict[str, Floats | float]:
    """P(right) of the held-out answers by each predictor."""
    least = 0.5 / fitted.n_attempts
    rate = min(max(float(fitted.responses.mean()), least), 1.0 - least)
    found = {name: predictions(held, params) for name, params in estimates(fitted, prior, grid).items()}
    return {**found, "constant": rate}


def _scores(
    answers: Answers, folds: Mapping[str, Ints], found: Mapping[str, Mapping[str, Floats]]
) -> pd.DataFrame:
    rows = {}
    for key, by_name in found.items():
        window = answers.windows[key]
        scored = ~np.isnan(by_name["constant"])
        if not scored.any():
            continue
        responses, fold = window.responses[scored], folds[key][scored]
        students = int(scored[window.offsets[:-1]].sum())
        for name, values in by_name.items():
            p = values[scored]
            rows[answers.skills[key], name] = {
                "log_likelihood": float(np.log(np.where(responses == 1, p, 1.0 - p)).mean()),
                "auc": _mean_auc(responses, p, fold),
                "rmse": rmse(responses, p),
                "attempts": responses.size,
                "students": students,
            }
    index = pd.MultiIndex.from_tuples(list(rows), names=["skill_id", "estimator"])
    return pd.DataFrame(list(rows.values()), index, columns=SCORES)


def _mean_auc(responses: npt.NDArray[np.uint8], p: Floats, fold: Ints) -> float:
    """Within each fold, because each has parameters of its own: a fold of good students is fitted to the others."""
    areas = [auc(responses[fold == number], p[fold == number]) for number in np.unique(fold)]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else math.nan
