"""Parameters as a frame, one row per skill."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from bkt_pipeline.errors import InvalidParams
from bkt_pipeline.model.params import BktParams

__all__ = ["PARAMETERS", "params_of"]

PARAMETERS = ("p_l0", "p_transit", "p_slip", "p_guess")


def params_of(params: pd.DataFrame, skills: Iterable[str]) -> dict[str, BktParams]:
    """The parameters of these skills.

    Parameters
    ----------
    params : DataFrame
        With the columns of `PARAMETERS`, and the skill's id in a column `skill_id` or, without one, in the index.
    skills : iterable of str
        The text of their ids.

    Raises
    ------
    InvalidParams
        If a column or skill is missing, a skill has two rows, or a value is outside the model's bounds.

    Examples
    --------
    >>> frame = pd.DataFrame({"p_l0": 0.3, "p_transit": 0.1, "p_slip": 0.1, "p_guess": 0.2}, index=["halves"])
    >>> params_of(frame, ["halves"])["halves"].values
    (0.3, 0.1, 0.1, 0.2)
    """
    if not isinstance(params, pd.DataFrame):
        raise InvalidParams(f"params is a {type(params).__name__}; give a DataFrame, such as `fit` returns")
    if missing := [name for name in PARAMETERS if name not in params.columns]:
        there = ", ".join(map(str, params.columns[:12])) or "no column"
        raise InvalidParams(f"params has no column {missing[0]!r}; it has {there}")
    keys = params["skill_id"] if "skill_id" in params.columns else params.index
    values: dict[str, list[Any]] = {}
    rows = params[list(PARAMETERS)].to_numpy(object).tolist()
    for key, row in zip(map(str, keys), rows, strict=True):
        if key in values:
            raise InvalidParams(f"params has two rows for skill {key!r}; keep one")
        values[key] = row
    found = {}
    for key in skills:
        if key not in values:
            raise InvalidParams(f"params has no row for skill {key!r}; fit it, or leave out its answers")
        try:
            found[key] = BktParams(*values[key])
        except InvalidParams as error:
            raise InvalidParams(f"params of skill {key!r}: {error}") from None
    return found
