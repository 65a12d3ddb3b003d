import datetime as dt

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.order import may_hold_repeats, tied_answers

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
MICROS = int(NOON.timestamp()) * 1_000_000
# Students' answers as (time, grade), close together so that many share a time.
students = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=6), max_size=4
)


def window_of(answers: list[list[tuple[int, int]]]) -> AttemptWindow:
    ordered = [sorted(one, key=lambda answer: answer[0]) for one in answers]
    flat = [answer for one in ordered for answer in one]
    return AttemptWindow(
        "a",
        tuple(f"s{number}" for number in range(len(ordered))),
        np.array([grade for _, grade in flat], np.uint8),
        np.array([MICROS - 10 + time for time, _ in flat], np.int64),
        np.cumsum([0, *map(len, ordered)]),
        NOON,
        30,
    )


@given(students)
def test_ties_are_the_answers_of_one_student_and_time_that_differ(
    answers: list[list[tuple[int, int]]],
) -> None:
    expected = sum(
        len(grades)
        for one in answers
        for time in {time for time, _ in one}
        if len(set(grades := [grade for at, grade in one if at == time])) == 2
    )
    assert tied_answers(window_of(answers)) == expected


@given(students)
def test_a_window_without_candidates_holds_no_repeated_answer(answers: list[list[tuple[int, int]]]) -> None:
    if any(len(set(one)) < len(one) for one in answers):
        assert may_hold_repeats(window_of(answers))


def test_a_window_of_different_times_holds_neither() -> None:
    window = window_of([[(0, 1), (1, 1)], [(1, 1), (2, 0)]])
    assert tied_answers(window) == 0
    assert not may_hold_repeats(window)
