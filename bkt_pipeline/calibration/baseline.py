"""What a calibration is compared with: the skill's earlier nights."""

from dataclasses import dataclass

from bkt_pipeline.model.params import BktParams


@dataclass(frozen=True)
class History:
    """Earlier nights of a skill: log-likelihood per attempt, the latest first, and the latest night's parameters."""

    per_attempt: tuple[float, ...] = ()
    params: BktParams | None = None
