"""Windows from plain lists of answers, and lists of answers from windows."""

from datetime import UTC, datetime

import numpy as np

from bkt_pipeline.model import AttemptWindow

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
AS_OF_US = int(AS_OF.timestamp()) * 1_000_000


def window(sequences, skill_id="skill", students=None):
    """A window with the given sequences of answers, one second apart."""
    lengths = [len(sequence) for sequence in sequences]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return AttemptWindow(
        skill_id,
        tuple(students or (f"s{i}" for i in range(len(sequences)))),
        np.array([answer for sequence in sequences for answer in sequence], np.uint8),
        AS_OF_US - 1_000_000 * (np.repeat(offsets[1:], lengths) - np.arange(offsets[-1])),
        offsets,
        AS_OF,
        30,
    )


def sequences(view):
    """The answers of each student in a window, as lists."""
    return [part.tolist() for part in np.split(view.responses, view.offsets[1:-1])]
