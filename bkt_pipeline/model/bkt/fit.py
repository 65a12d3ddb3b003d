"""What calibrating one skill gives."""

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
    """The calibration of one skill, with what it rests on.

    Parameters
    ----------
    skill_id : str
        The skill.
    params : BktParams
        The grid's winner; `SAFE_DEFAULT`, whose log-likelihood is None, where the grid has no valid point or the window
        no answer.
    n_attempts, n_students, n_distinct : int
        Graded answers, students, and different sequences among theirs.
    ungraded : int
        Attempts that were left out.
    as_of : datetime
        End of the window.
    uncertainty : Uncertainty or None
        How sure the parameters are, under the fit's prior; its intervals hold what is published.
    evidence : Evidence
        What the answers cannot determine about what is published.
    polished : BktParams or None
        The continuous optimum; None where it was not asked for, and with the safe default.
    estimator : {"grid", "polished", "pooled"}
        Which of them is `published`.
    pooled : BktParams or None
        The mode under the fit's prior, with the log-likelihood of the answers alone; None only in a fit that an older
        version stored.
    moments : Moments or None
        Mean and covariance of the logits' posterior under `SHIPPED_PRIOR`, whatever the fit's prior, from which later
        nights learn the school's; None without answers.
    held_out : HeldOut or None
        How well each estimator predicts students that it was not fitted to; None where it was not asked for, or where
        students are too few.
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
    pooled: BktParams | None = None
    moments: Moments | None = None
    held_out: HeldOut | None = None

    @property
    def published(self) -> BktParams:
        """The parameters that the platform is to use."""
        of = {"grid": self.params, "polished": self.polished, "pooled": self.pooled}
        return of[self.estimator] or self.params
