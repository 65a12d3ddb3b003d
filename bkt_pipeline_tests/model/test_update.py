"""The update after every answer: in Python, in SQL, and in the test vectors for every other language."""

import json

import numpy as np
import psycopg
import pytest

from bkt_pipeline.errors import InvalidAttempts, InvalidParams
from bkt_pipeline.model import BktParams, predict, replay, update
from bkt_pipeline_tests.helpers.exact_update import FILE, NAMES, as_json

GIVEN = json.loads(FILE.read_text())
TOLERANCE = GIVEN["relative_tolerance"]


def params_of(case: dict[str, float]) -> BktParams:
    return BktParams(*(case[name] for name in NAMES))


def test_the_vectors_are_the_contracts_formulas_in_exact_fractions() -> None:
    assert FILE.read_text() == as_json()
    assert len(GIVEN["cases"]) > 200


def test_python_agrees_with_every_vector() -> None:
    for case in GIVEN["cases"]:
        after = update(case["p_known"], case["right"], params_of(case))
        assert type(after) is float
        assert after == pytest.approx(case["p_known_after"], rel=TOLERANCE, abs=0), case
        assert GIVEN["lowest"] <= after <= GIVEN["highest"]
        right = predict(case["p_known"], params_of(case))
        assert right == pytest.approx(case["p_right"], rel=TOLERANCE, abs=0), case
    for case in GIVEN["refused"]:
        with pytest.raises(InvalidParams):
            update(case["p_known"], case["right"], params_of(case))


CALLS = """
    SELECT bkt_pipeline.bkt_update(p_known, "right", p_l0, p_transit, p_slip, p_guess),
        bkt_pipeline.bkt_predict(p_known, p_l0, p_transit, p_slip, p_guess)
    FROM jsonb_to_recordset(%s::jsonb) AS given (p_known float8, "right" boolean, p_l0 float8, p_transit float8,
        p_slip float8, p_guess float8)
"""


def test_sql_agrees_with_every_vector_and_with_python(own_tables: str) -> None:
    usual = GIVEN["refused"][0] | {"p_known": 0.5}
    missing = [usual | {name: None} for name in NAMES]
    with psycopg.connect(own_tables, autocommit=True) as connection:
        rows = connection.execute(CALLS, [json.dumps(GIVEN["cases"])]).fetchall()
        for (after, right), case in zip(rows, GIVEN["cases"], strict=True):
            assert after == pytest.approx(case["p_known_after"], rel=TOLERANCE, abs=0), case
            assert right == pytest.approx(case["p_right"], rel=TOLERANCE, abs=0), case
            assert after == update(case["p_known"], case["right"], params_of(case))
        for case in [*GIVEN["refused"], *missing, usual | {"p_known": "NaN"}]:
            with pytest.raises(psycopg.errors.InvalidParameterValue):
                connection.execute(CALLS, [json.dumps([case])])
        marked = connection.execute(
            "SELECT provolatile, proparallel FROM pg_proc WHERE pronamespace = 'bkt_pipeline'::regnamespace"
        ).fetchall()
    assert marked == [("i", "s")] * 2


def test_updates_follow_the_replay() -> None:
    rng = np.random.default_rng(1)
    for prior, transit, slip, guess in rng.uniform([0, 0, 0.02, 0.02], [1, 0.5, 0.45, 0.45], (50, 4)):
        params = BktParams(prior, transit, slip, guess)
        answers = rng.integers(0, 2, 30).astype(np.uint8)
        before, after = replay(answers, np.array([0, 30]), params)
        known = None
        for answer, expected in zip(answers, after, strict=True):
            known = update(known, answer, params)
            assert known == pytest.approx(expected, rel=1e-9)
        np.testing.assert_allclose(update(before, answers, params), after, rtol=1e-9)


def test_arrays_broadcast_and_certainty_is_never_final() -> None:
    params = BktParams(0.3, 0.1, 0.0, 0.2)
    known = update(np.array([[0.2], [1.0]]), [True, False, None], params)
    assert known.shape == (2, 3)
    assert known[1].tolist() == [1 - 1e-12, 0.1, 1 - 1e-12]
    assert update(1.0, False, params) == params.p_transit


@pytest.mark.parametrize("known", [np.nan, 1.5, -0.1, "0.x", [0.5, np.nan]])
def test_an_impossible_state_is_refused(known: object) -> None:
    with pytest.raises(InvalidParams, match="p_known is"):
        update(known, True, BktParams(0.3, 0.1, 0.1, 0.2))


@pytest.mark.parametrize("right", [2, np.nan, "yes", [1, 0.5], [True, "no"], [None, float("nan")]])
def test_an_impossible_answer_is_refused(right: object) -> None:
    with pytest.raises(InvalidAttempts, match="right is"):
        update(0.5, right, BktParams(0.3, 0.1, 0.1, 0.2))
