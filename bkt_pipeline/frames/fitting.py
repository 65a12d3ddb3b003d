"""Fits every skill of a frame."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import pandas as pd

from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.frames.attempts import read_answers
from bkt_pipeline.frames.parameters import PARAMETERS
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.calibrate import calibrate_all
from bkt_pipeline.model.bkt.fit import Estimator, SkillFit
from bkt_pipeline.model.bkt.grid import DEFAULT_GRID, Grid
from bkt_pipeline.model.bkt.pooled import learn_prior
from bkt_pipeline.model.bkt.prior import SHIPPED_PRIOR, SchoolPrior
from bkt_pipeline.model.params import BktParams

__all__ = ["Prior", "chosen_prior", "fit"]

Prior = SchoolPrior | Literal["school"]
ESTIMATORS = ("grid", "polished", "pooled")


def fit(
    df: pd.DataFrame,
    *,
    estimator: Estimator = "grid",
    prior: Prior = SHIPPED_PRIOR,
    grid: Grid = DEFAULT_GRID,
    columns: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """The parameters of every skill by each estimator, with intervals, on all cores.

    The numbers are those of `bkt_pipeline.model.calibrate_all` and of a night. The columns have the names of the table
    `bkt_pipeline.skill_fits` and of ``bkt-pipeline export``.

    Parameters
    ----------
    df : DataFrame
        One row for each graded answer, as `windows` describes it.
    estimator : {"grid", "polished", "pooled"}
        Which estimate the columns `p_l0` to `log_likelihood` have.
    prior : SchoolPrior or "school"
        The prior of the pooled estimate and of the intervals. "school" learns it from the frame's skills, by one EM step
        from the shipped prior.
    grid : Grid
        The points that the grid search evaluates.
    columns : mapping, optional
        As in `windows`.

    Returns
    -------
    DataFrame
        One row per skill, with the index `skill_id` and the columns

        - `p_l0`, `p_transit`, `p_slip`, `p_guess`: the parameters; `log_likelihood` of all answers, in nats.
        - `{parameter}_mean`, `_sd`, `_low`, `_high`: posterior under the prior, with a 95% interval;
          `_profile_low`, `_profile_high`: the interval within 1.92 nats of the optimum, without a prior. The best
          grid point, which moves in steps of 0.05, can lie just outside it.
        - `attempts`, `students`: how many; `tier` and `flags` (separated by commas): what they can determine;
          `answers_to_mastery`: right answers in a row until P(known) is 0.95.
        - `estimator`, and the parameters by each: `grid_p_l0`, `polished_p_l0`, `pooled_p_l0` and so on.

    Raises
    ------
    InvalidAttempts
        If a column is missing or a row is invalid; see `windows`.
    InvalidSettings
        If `estimator` or `prior` is something else.

    References
    ----------
    Corbett & Anderson (1994), DOI 10.1007/BF01099821.

    Examples
    --------
    >>> df = pd.DataFrame({"student_id": [*"aaabbbccc"], "skill_id": "halves", "is_correct": [0, 1, 1, 0, 0, 1, 1, 1, 1]})
    >>> params = fit(df)
    >>> params[["p_l0", "p_transit", "p_slip", "p_guess"]].to_numpy().tolist()
    [[0.3, 0.7, 0.05, 0.05]]
    >>> params[["pooled_p_transit", "attempts", "tier"]].round(2)
              pooled_p_transit  attempts          tier
    skill_id
    halves                0.18         9  insufficient
    """
    if estimator not in ESTIMATORS:
        raise InvalidSettings(f"estimator is {estimator!r}; it must be one of {', '.join(ESTIMATORS)}")
    answers = read_answers(df, columns)
    rows = {}
    fits = calibrate_all(
        answers.windows,
        grid=grid,
        prior=chosen_prior(prior, answers.windows),
        polished=True,
        estimator=estimator,
    )
    for key, found in fits:
        if isinstance(found, Exception):
            raise found
        rows[key] = _row(found)
    index = pd.Index([answers.skills[key] for key in answers.skills], name="skill_id")
    return pd.DataFrame([rows[key] for key in answers.skills], index).astype({"answers_to_mastery": "Int64"})


def chosen_prior(prior: Prior, windows: Mapping[str, AttemptWindow]) -> SchoolPrior:
    """The prior itself, or the one that these windows teach."""
    if isinstance(prior, SchoolPrior):
        return prior
    if prior != "school":
        raise InvalidSettings(
            f"prior is {prior!r}; give a SchoolPrior, or 'school' to learn it from the answers"
        )
    return learn_prior(windows)


def _row(found: SkillFit) -> dict[str, Any]:
    intervals = {
        f"{name}_{part}": value
        for name in PARAMETERS
        for part, value in asdict(getattr(found.uncertainty, name)).items()
    }
    by_estimator = {"grid": found.params, "polished": found.polished, "pooled": found.pooled}
    return {
        **_named(found.published),
        **intervals,
        "attempts": found.n_attempts,
        "students": found.n_students,
        "tier": str(found.evidence.tier),
        "flags": ", ".join(found.evidence.flags),
        "answers_to_mastery": found.evidence.answers_to_mastery,
        "estimator": found.estimator,
        **{
            f"{name}_{part}": value
            for name, params in by_estimator.items()
            for part, value in _named(params or found.params).items()
        },
    }


def _named(params: BktParams) -> dict[str, float | None]:
    return {name: getattr(params, name) for name in (*PARAMETERS, "log_likelihood")}
