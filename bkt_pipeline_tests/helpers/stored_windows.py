"""Generated and hand-written windows, and short functions to store and load them."""

import datetime as dt

import numpy as np
from hypothesis import strategies as st

from bkt_pipeline.model.attempts import SEQUENCES, AttemptWindow
from bkt_pipeline.windows.store import WindowStore

AS_OF = dt.datetime(2026, 3, 1, 7, tzinfo=dt.UTC)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)


def micros(moment: dt.datetime) -> int:
    return (moment - EPOCH) // dt.timedelta(microseconds=1)


def window_of(skill: str, sequences: list[list[bool]], as_of: dt.datetime = AS_OF) -> AttemptWindow:
    lengths = [len(sequence) for sequence in sequences]
    flat = [answer for sequence in sequences for answer in sequence]
    return AttemptWindow(
        skill_id=skill,
        student_ids=tuple(f"s{number:04}" for number in range(len(sequences))),
        responses=np.array(flat, np.uint8),
        answered_at=np.full(len(flat), micros(as_of), np.int64),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        as_of=as_of,
        window_days=30,
        ungraded=len(sequences),
    )


def put(store: WindowStore, *windows: AttemptWindow, run_id: str = "run") -> dict[str, Exception]:
    """Store the windows; returns the error of each window that was not stored."""
    return dict(store.store({window.skill_id: window for window in windows}, run_id))


def get(store: WindowStore, *keys: str) -> dict[str, AttemptWindow]:
    """The stored windows of these skills, all of which must be readable."""
    loaded = {}
    for key, stored in store.load(keys).items():
        assert not isinstance(stored, Exception), (key, stored)
        loaded[key] = stored.window
    return loaded


ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=50)


@st.composite
def windows(draw: st.DrawFn) -> AttemptWindow:
    students = sorted(draw(st.sets(ids, max_size=8)))
    lengths = [draw(st.integers(1, 20)) for _ in students]
    n = sum(lengths)
    days = draw(st.integers(1, 60))
    sequences = draw(st.sampled_from(SEQUENCES))
    last, first = micros(AS_OF), micros(AS_OF - dt.timedelta(days=days)) + 1
    if sequences == "from_first_answer":
        first -= 400 * 86_400_000_000
    times = [sorted(draw(st.lists(st.integers(first, last), min_size=k, max_size=k))) for k in lengths]
    return AttemptWindow(
        skill_id=draw(ids),
        student_ids=tuple(students),
        responses=np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), np.uint8),
        answered_at=np.array([moment for of_student in times for moment in of_student], np.int64),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        as_of=AS_OF,
        window_days=days,
        ungraded=draw(st.integers(0, 2**40)),
        sequences=sequences,
    )
