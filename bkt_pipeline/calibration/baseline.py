"""Baselines for a calibration: the skill's earlier nights, and a constant success rate."""

import math
from dataclasses import dataclass

from bkt_pipeline.model.params import BktParams


@dataclass(frozen=True)
class History:
    """Earlier nights of a skill: log-likelihood per attempt, latest first, and the latest parameters."""

    per_attempt: tuple[float, ...] = ()
    params: BktParams | None = None


def constant_rate(share_right: float, rate: float) -> float:
    """Log-likelihood per attempt, in nats, of answers of which `share_right` are right, under one success `rate`."""
    right = share_right * math.log(rate) if share_right else 0.0
    wrong = (1.0 - share_right) * math.log(1.0 - rate) if share_right < 1.0 else 0.0
    return right + wrong
