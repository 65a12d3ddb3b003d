"""The result of calibrating one skill."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from bkt_pipeline.model.bkt.evidence import Evidence
from bkt_pipeline.model.bkt.prior import Moments
from bkt_pipeline.model.bkt.scores import HeldOut
from bkt_pipeline.model.bkt.uncertainty import Uncertainty
from bkt_pipeline.model.params import BktParams

__all__ = ["Estimator", "SkillFit"]

Estimator = Literal["grid", "polished", "pooled"]


@dataclass(frozen=True, slots=True)
class SkillFit:
    """The calibration of one skill, with its evidence.

    Parameters
    ----------
    skill_id : str
        The skill.
    params : BktParams
        The grid's winner. If the grid has no valid point or the window no answer, `SAFE_DEFAULT`, whose log-likelihood
        is None.
    n_attempts, n_students, n_distinct : int
        Numbers of graded answers, students, and distinct sequences.
    ungraded : int
        Attempts that were left out because they are not graded.
    as_of : datetime
        End of the window.
    uncertainty : Uncertainty or None
        The uncertainty of the parameters under the fit's prior. Its intervals contain the published values.
    evidence : Evidence
        What the answers cannot determine about the published parameters.
    polished : BktParams or None
        The continuous optimum; None if it was not requested, or with the safe default.
    estimator : {"grid", "polished", "pooled"}
        Which estimate is `published`.
    pooled : BktParams or None
        The mode under the fit's prior, with the log-likelihood of the answers alone; None only in a fit that an older
        version stored.
    moments : Moments or None
        Mean and covariance of the logits' posterior, always under `SHIPPED_PRIOR`. Later nights learn the school's
        prior from them. None without answers.
    held_out : HeldOut or None
        How well each estimator predicts students that it was not fitted to; None if this was not requested or there
        are too few students.
    seconds : float
        How long the fit took; ignored in comparisons.
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
    pooled: BktParams | None = None
    moments: Moments | None = None
    held_out: HeldOut | None = None

    @property
    def published(self) -> BktParams:
        """The parameters for the platform to use."""
        of = {"grid": self.params, "polished": self.polished, "pooled": self.pooled}
        return of[self.estimator] or self.params
