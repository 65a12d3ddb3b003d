"""P(known) along flat sequences, computed from odds with a separate binary exponent."""

import numpy as np
import numpy.typing as npt

from bkt_pipeline.model.kernels.compile import kernel

# Only hundreds of equal answers in a row bring the odds near overflow or underflow; this factor is then split off.
_FAR = 2.0**512

Floats = npt.NDArray[np.float64]


@kernel
def replay(
    responses: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    prior: float,
    transit: float,
    slip: float,
    guess: float,
    before: Floats,
    after: Floats,
) -> None:
    """Fill `before` and `after`, shape (n_attempts,), with P(known) around each attempt.

    All parameters must be strictly between 0 and 1, except that transit may be 0.
    """
    if_right = (1.0 - slip) / guess
    if_wrong = slip / (1.0 - guess)
    stays = 1.0 / (1.0 - transit)
    for i in range(offsets.size - 1):
        odds = prior / (1.0 - prior)
        aside = 0
        learn = transit
        known = prior
        for j in range(offsets[i], offsets[i + 1]):
            before[j] = known
            odds = (odds * (if_right if responses[j] else if_wrong) + learn) * stays
            if odds > _FAR or (aside < 0 and odds > 1.0):
                odds /= _FAR
                aside += 1
            elif odds < 1.0 / _FAR or (aside > 0 and odds < 1.0):
                odds *= _FAR
                aside -= 1
            # The chance to learn is negligible beside odds beyond _FAR. Odds below 1 / _FAR occur only if transit is 0.
            learn = 0.0 if aside > 0 else transit
            known = odds / (1.0 + odds) if aside == 0 else (1.0 if aside > 0 else 0.0)
            after[j] = known
