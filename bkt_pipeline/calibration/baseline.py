"""Baselines for a calibration: the skill's earlier nights, and a constant success rate."""

import datetime as dt
import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.params import BktParams

KEPT_NIGHTS = 30  # earlier nights of each skill that a night looks at


@dataclass(frozen=True)
class History:
    """Earlier nights of a skill, latest first.

    Attributes
    ----------
    per_attempt
        The log-likelihood per attempt of each.
    params
        The parameters of the latest.
    nights
        Their dates.
    estimates
        Shape (n_nights, 4, 3): the published value of each parameter, and the ends of its 95% interval, NaN where the
        night has none.
    """

    per_attempt: tuple[float, ...] = ()
    params: BktParams | None = None
    nights: tuple[dt.date, ...] = ()
    estimates: npt.NDArray[np.float32] = field(
        default_factory=lambda: np.empty((0, 4, 3), np.float32), compare=False, repr=False
    )


def constant_rate(share_right: float, rate: float) -> float:
    """Log-likelihood per attempt, in nats, of answers of which `share_right` are right, under one success `rate`."""
    right = share_right * math.log(rate) if share_right else 0.0
    wrong = (1.0 - share_right) * math.log(1.0 - rate) if share_right < 1.0 else 0.0
    return right + wrong
