"""Single answers from Python code: what is taken, what is refused, and that no two students become one."""

from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from bkt_pipeline.errors import InvalidAttempts
from bkt_pipeline.model import AttemptObservation, calibrate_skill
from bkt_pipeline_tests.helpers.windows import AS_OF

MISSING = [None, float("nan"), np.float64("nan"), np.float32("nan"), pd.NaT, pd.NA, "", " ", "\t\n", "\u00a0"]
MISSING_AS_TEXT = [str(value) for value in (float("nan"), pd.NaT, pd.NA, None)]
ODD_IDS = [True, 1.0, np.float64(7), b"anna", ("anna",), np.datetime64("NaT", "s"), Decimal("1")]


@pytest.mark.parametrize(
    "answer", [2, -1, 0.5, 1e-9, "1", "true", None, float("nan"), pd.NA, pd.NaT, [1], 1j]
)
def test_an_observation_refuses_what_is_no_answer(answer):
    with pytest.raises(InvalidAttempts, match="an answer is True, False, 1 or 0") as error:
        AttemptObservation("anna", "algebra", answer, 1.0)
    assert f"is_correct is {answer!r}" in str(error.value)
    assert "anna" not in str(error.value)


@pytest.mark.parametrize(
    "kind", [int, float, bool, np.bool_, np.uint8, np.int64, np.float32, np.float64, Fraction]
)
def test_an_observation_takes_an_answer_as_any_kind_of_number(kind):
    assert AttemptObservation("anna", "algebra", kind(1), 1).is_correct is True
    assert AttemptObservation("anna", "algebra", kind(0), 1).is_correct is False


@pytest.mark.parametrize("time", [float("nan"), float("inf"), None, "noon", AS_OF, True, pd.NaT, pd.NA])
def test_an_observation_refuses_what_is_no_time(time):
    with pytest.raises(InvalidAttempts, match="Unix seconds"):
        AttemptObservation("anna", "algebra", True, time)


@pytest.mark.parametrize("field", ["student_id", "skill_id"])
@pytest.mark.parametrize("missing", [*MISSING, *MISSING_AS_TEXT], ids=repr)
def test_a_missing_id_is_refused(field, missing):
    ids = {"student_id": "anna", "skill_id": "algebra"} | {field: missing}
    with pytest.raises(InvalidAttempts, match=f"{field} is missing") as error:
        AttemptObservation(**ids, is_correct=True, timestamp=1.0)
    assert "anna" not in str(error.value)


@pytest.mark.parametrize("field", ["student_id", "skill_id"])
@pytest.mark.parametrize("odd", ODD_IDS, ids=repr)
def test_an_id_is_text_an_integer_or_a_uuid(field, odd):
    ids = {"student_id": "anna", "skill_id": "algebra"} | {field: odd}
    with pytest.raises(InvalidAttempts, match=f"{field} is of type {type(odd).__name__}") as error:
        AttemptObservation(**ids, is_correct=True, timestamp=1.0)
    assert "anna" not in str(error.value)


@pytest.mark.parametrize(
    "given", ["anna", 7, UUID(int=7), np.str_("anna"), np.int32(7), np.uint64(2**63 + 1)]
)
def test_an_id_is_kept_as_plain_python(given):
    observation = AttemptObservation(given, given, True, 1.0)
    assert (observation.student_id, observation.skill_id) == (given, given)
    assert type(observation.student_id) in (str, int, UUID)
    assert str(given) not in repr(observation).replace(f"skill_id={observation.skill_id!r}", "")


def answers(*students):
    return [AttemptObservation(student, "algebra", n % 2, float(n)) for n, student in enumerate(students)]


@pytest.mark.parametrize(("one", "other"), [(1, "1"), (UUID(int=5), str(UUID(int=5)))])
def test_ids_of_two_types_with_the_same_text_are_refused(one, other):
    with pytest.raises(InvalidAttempts, match="attempts number 1 and 3 are the same text") as error:
        calibrate_skill(answers("x", one, 2, other))
    assert str(one) not in str(error.value).replace("number 1 ", "")


def test_ids_of_two_types_that_differ_are_two_students():
    assert calibrate_skill(answers(1, "2", 1, "2")) == calibrate_skill(answers("a", "b", "a", "b"))
    assert calibrate_skill(answers(1, "2", 1, "2")) != calibrate_skill(answers("a", "a", "a", "a"))


def test_an_integer_of_any_kind_is_the_same_student():
    assert calibrate_skill(answers(1, np.int64(1), np.uint8(1))) == calibrate_skill(answers("a", "a", "a"))


def test_errors_about_a_list_name_the_attempt():
    attempts = answers("anna", "bert")
    with pytest.raises(InvalidAttempts, match="attempt number 2 is a tuple"):
        calibrate_skill([*attempts, ("anna", "algebra", 1, 2.0)])
    other = AttemptObservation("anna", "geometry", True, 3.0)
    with pytest.raises(InvalidAttempts, match="number 0 is of 'algebra', attempt number 2 of 'geometry'"):
        calibrate_skill([*attempts, other])
    with pytest.raises(InvalidAttempts, match="no attempts"):
        calibrate_skill([])
