"""Values refuse what they cannot mean, say what is wrong, and never show a student's id."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from bkt_pipeline.errors import InvalidAttempts, InvalidParams
from bkt_pipeline.model import AttemptWindow, BktParams
from bkt_pipeline_tests.helpers.windows import AS_OF, AS_OF_US, window


def make(**changes):
    fields = {
        "skill_id": "algebra",
        "student_ids": ("anna", "bert"),
        "responses": np.array([1, 0, 1], np.uint8),
        "answered_at": AS_OF_US - np.array([9, 5, 7]),
        "offsets": np.array([0, 2, 3]),
        "as_of": AS_OF,
        "window_days": 30,
        "ungraded": 0,
    }
    return AttemptWindow(**(fields | changes))


def test_a_window_knows_its_size():
    view = make()
    assert (view.n_attempts, view.n_students) == (3, 2)


def test_an_empty_window_is_fine():
    view = window([])
    assert (view.n_attempts, view.n_students) == (0, 0)


def test_windows_are_equal_by_value():
    assert make() == make()
    assert make() != make(responses=np.array([1, 1, 1], np.uint8))
    assert make() != make(ungraded=1)
    assert make() != "algebra"


def test_windows_cannot_be_changed():
    responses = np.array([1, 0, 1], np.uint8)
    view = make(responses=responses)
    responses[0] = 0
    assert view.responses[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        view.responses[0] = 0


def test_a_window_shows_no_student_and_no_answer():
    assert (
        repr(make())
        == f"AttemptWindow(skill_id='algebra', 3 attempts, 2 students, as_of={AS_OF.isoformat()})"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"responses": np.array([1, 2, 1], np.uint8)}, "response number 1 is 2"),
        ({"responses": np.array([1, -1, 1])}, "something else than 0 and 1"),
        ({"responses": np.array([1.0, 0.0, np.nan])}, "responses is of float64"),
        ({"responses": np.array([[1, 0, 1]], np.uint8)}, r"responses has shape \(1, 3\)"),
        ({"answered_at": AS_OF_US - np.array([9, 5])}, "3 responses but 2 times"),
        ({"answered_at": AS_OF_US - np.array([5, 9, 7])}, "answer number 1 is earlier"),
        ({"answered_at": AS_OF_US + np.array([0, 1, 0])}, "leave out what is outside"),
        ({"answered_at": AS_OF_US - np.array([30 * 86_400_000_000, 1, 1])}, "leave out what is outside"),
        ({"offsets": np.array([0, 3])}, "2 offsets for 2 students"),
        ({"offsets": np.array([0, 2, 4])}, "from 0 to the number of answers"),
        ({"offsets": np.array([0, 3, 3])}, "sequence number 1 is empty"),
        ({"offsets": np.array([0.0, 2.0, 3.0])}, "offsets is of float64"),
        ({"student_ids": ("anna", "anna")}, "a student has two sequences"),
        ({"as_of": datetime(2026, 1, 1)}, "no time zone"),
        ({"window_days": 0}, "window_days is 0"),
        ({"ungraded": -1}, "ungraded -1"),
        ({"sequences": "all"}, "sequences is 'all'; it must be one of window, from_first_answer"),
        (
            {"sequences": "from_first_answer", "answered_at": AS_OF_US + np.array([0, 1, 0])},
            "leave out what is outside",
        ),
    ],
)
def test_a_window_refuses_what_does_not_fit(changes, message):
    with pytest.raises(InvalidAttempts, match=message) as error:
        make(**changes)
    assert "window of skill 'algebra'" in str(error.value)
    assert "anna" not in str(error.value)


def test_the_window_begins_just_after_its_first_instant():
    begin = AS_OF_US - 30 * 86_400_000_000
    assert make(answered_at=np.array([begin + 1, AS_OF_US, AS_OF_US])).n_attempts == 3


def test_sequences_from_the_first_answer_may_begin_before_the_window():
    years_ago = AS_OF_US - 1000 * 86_400_000_000
    window = make(sequences="from_first_answer", answered_at=np.array([years_ago, AS_OF_US, AS_OF_US]))
    assert window.n_attempts == 3


def test_where_sequences_begin_is_part_of_a_window():
    assert make(sequences="from_first_answer") != make()


def test_as_of_may_be_in_any_zone():
    elsewhere = AS_OF.astimezone(tz=None) + timedelta(0)
    assert make(as_of=elsewhere.astimezone(UTC)) == make()


def test_booleans_are_answers():
    assert make(responses=np.array([True, False, True])) == make()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((-0.1, 0.1, 0.1, 0.1), "p_l0 is -0.1"),
        ((0.1, 1.1, 0.1, 0.1), "p_transit is 1.1"),
        ((0.1, 0.1, 0.6, 0.1), r"p_slip is 0.6; it must be a number in \[0, 0.5\]"),
        ((0.1, 0.1, 0.1, float("nan")), "p_guess is nan"),
        ((0.1, 0.1, 0.5, 0.5), "must stay below 1"),
        ((0.1, 0.1, 0.1, True), "p_guess is True"),
        ((0.1, 0.1, 0.1, 0.1, 1.0), "log_likelihood is 1.0"),
        ((0.1, 0.1, 0.1, 0.1, float("nan")), "log_likelihood is nan"),
    ],
)
def test_params_refuse_what_is_out_of_bounds(values, message):
    with pytest.raises(InvalidParams, match=message):
        BktParams(*values)
