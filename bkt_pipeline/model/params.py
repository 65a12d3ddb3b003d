"""The four parameters of one skill."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bkt_pipeline.errors import InvalidParams

_NUMBERS = (int, float, np.floating)


@dataclass(frozen=True, slots=True)
class BktParams:
    """The four parameters of Corbett & Anderson's model (1994, DOI 10.1007/BF01099821).

    Parameters
    ----------
    p_l0 : float
        P(known before the first attempt), in [0, 1].
    p_transit : float
        P(unknown becomes known) after each attempt, in [0, 1].
    p_slip : float
        P(wrong | known), in [0, 0.5].
    p_guess : float
        P(right | unknown), in [0, 0.5]; slip + guess stays below 1.
    log_likelihood : float, optional
        Natural log of the probability of the answers that the parameters were fitted to (nats, all students);
        None if they were not fitted.

    Raises
    ------
    InvalidParams
        If a value is out of its bounds.

    Examples
    --------
    >>> BktParams(0.3, 0.1, 0.1, 0.2)
    BktParams(p_l0=0.3, p_transit=0.1, p_slip=0.1, p_guess=0.2, log_likelihood=None)
    """

    p_l0: float
    p_transit: float
    p_slip: float
    p_guess: float
    log_likelihood: float | None = None

    def __post_init__(self) -> None:
        for name, top in (("p_l0", 1.0), ("p_transit", 1.0), ("p_slip", 0.5), ("p_guess", 0.5)):
            value: Any = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, _NUMBERS) or not 0.0 <= value <= top:
                raise InvalidParams(f"{name} is {value!r}; it must be a number in [0, {top:g}]")
            object.__setattr__(self, name, float(value))
        if self.p_slip + self.p_guess >= 1.0:
            raise InvalidParams(
                f"p_slip + p_guess is {self.p_slip + self.p_guess:g}; it must stay below 1, "
                "else knowing the skill would not help"
            )
        if self.log_likelihood is not None and not self.log_likelihood <= 0.0:
            raise InvalidParams(
                f"log_likelihood is {self.log_likelihood!r}; the log of a probability is at most 0"
            )

    @property
    def values(self) -> tuple[float, float, float, float]:
        """(p_l0, p_transit, p_slip, p_guess)."""
        return (self.p_l0, self.p_transit, self.p_slip, self.p_guess)


# The parameters of a skill without evidence for others. They never overwrite an existing row.
SAFE_DEFAULT = BktParams(0.3, 0.1, 0.1, 0.2)
