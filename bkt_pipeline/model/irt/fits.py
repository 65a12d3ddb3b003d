"""What an item calibration returns: fits, status and flags of each item."""

from dataclasses import dataclass, fields
from enum import IntFlag, StrEnum

import numpy as np
import numpy.typing as npt


class ItemStatus(StrEnum):
    """The outcome of an item's calibration."""

    CALIBRATED = "calibrated"
    PROVISIONAL = "provisional"
    SKIPPED = "skipped"
    INVALID = "invalid"


class ItemFlag(IntFlag):
    """Warnings about an item's numbers; several can apply at once."""

    AT_BOUND_A = 1
    AT_BOUND_B = 2
    NOT_CONVERGED = 4
    ALL_RIGHT = 8
    ALL_WRONG = 16
    LOW_SPREAD = 32
    BAD_THETA = 64
    BAD_RESPONSE = 128


@dataclass(frozen=True)
class ItemFit:
    """One item's fit; the fields are those of `ItemFits`, as plain numbers."""

    irt_a: float
    irt_b: float
    se_a: float
    se_b: float
    log_likelihood: float
    n_attempts: int
    flags: ItemFlag
    status: ItemStatus


@dataclass(frozen=True, eq=False)
class ItemFits:
    """The fits of many items, one array per quantity; `fits[i]` is item i as `ItemFit`.

    Attributes
    ----------
    irt_a, irt_b : float64[n_items]
        Discrimination (per logit) and difficulty (logits); NaN if the status is skipped or invalid. An item that
        everybody got right or everybody got wrong is skipped.
    se_a, se_b : float64[n_items]
        Standard errors, from the inverse of the observed information: the negative second derivatives of the
        objective with respect to a and b at the optimum. With `method="map"` this is the posterior's curvature. A
        parameter at its bound has no standard error (NaN), and the other's is conditional on it. Both are NaN if the
        answers leave a direction without curvature.
    log_likelihood : float64[n_items]
        Sum of natural logs of the probability of every answer at (irt_a, irt_b), in nats: the likelihood alone,
        without priors.
    n_attempts : int64[n_items]
        Number of answers.
    flags : uint8[n_items]
        `ItemFlag` values, or-ed.
    status : str[n_items]
        `ItemStatus` values.
    """

    irt_a: npt.NDArray[np.float64]
    irt_b: npt.NDArray[np.float64]
    se_a: npt.NDArray[np.float64]
    se_b: npt.NDArray[np.float64]
    log_likelihood: npt.NDArray[np.float64]
    n_attempts: npt.NDArray[np.int64]
    flags: npt.NDArray[np.uint8]
    status: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return self.irt_a.size

    def only(self, chosen: npt.NDArray[np.bool_] | slice) -> "ItemFits":
        """The fits of the chosen items, bool[n_items] or a slice."""
        return ItemFits(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def __getitem__(self, item: int) -> ItemFit:
        return ItemFit(
            irt_a=float(self.irt_a[item]),
            irt_b=float(self.irt_b[item]),
            se_a=float(self.se_a[item]),
            se_b=float(self.se_b[item]),
            log_likelihood=float(self.log_likelihood[item]),
            n_attempts=int(self.n_attempts[item]),
            flags=ItemFlag(int(self.flags[item])),
            status=ItemStatus(str(self.status[item])),
        )
