"""What calibrating one skill gives."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from bkt_pipeline.model.bkt.evidence import Evidence
from bkt_pipeline.model.bkt.uncertainty import Uncertainty
from bkt_pipeline.model.params import BktParams

__all__ = ["SAFE_DEFAULT", "Estimator", "SkillFit"]

Estimator = Literal["grid", "polished"]

# What a skill gets when the grid has no point to choose from; never written over a row that exists.
SAFE_DEFAULT = BktParams(0.3, 0.1, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class SkillFit:
    """The calibration of one skill, with what it rests on.

    Parameters
    ----------
    skill_id : str
        The skill.
    params : BktParams
        The grid's winner; `SAFE_DEFAULT`, whose log-likelihood is None, where the grid has no valid point.
    n_attempts, n_students, n_distinct : int
        Graded answers, students, and different sequences among theirs.
    ungraded : int
        Attempts that were left out.
    as_of : datetime
        End of the window.
    uncertainty : Uncertainty or None
        How sure the parameters are; None with the safe default.
    evidence : Evidence
        What the answers cannot tell.
    polished : BktParams or None
        The continuous optimum; None where it was not asked for, and with the safe default.
    estimator : {"grid", "polished"}
        Which of the two is `published`.
    seconds : float
        How long the fit took; not compared.
    """

    skill_id: str
    params: BktParams
    n_attempts: int
    n_students: int
    n_distinct: int
    ungraded: int
    as_of: datetime
    uncertainty: Uncertainty | None
    evidence: Evidence
    polished: BktParams | None
    seconds: float = field(compare=False)
    estimator: Estimator = "grid"

    @property
    def published(self) -> BktParams:
        """The parameters that the platform is to use."""
        return self.polished if self.estimator == "polished" and self.polished else self.params
