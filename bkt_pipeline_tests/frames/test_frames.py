"""The functions on pandas frames give the numbers of the model, and name the row and value of every fault."""

import numpy as np
import pandas as pd
import pytest

from bkt_pipeline import frames
from bkt_pipeline.errors import BktError, InvalidAttempts, InvalidParams, InvalidSettings
from bkt_pipeline.model import AttemptWindow, BktParams, calibrate_all, learn_prior, log_likelihood, replay
from bkt_pipeline.model.bkt.prediction import of_students
from bkt_pipeline.model.bkt.scores import estimates
from bkt_pipeline.model.simulate import simulate

NAMES = ("p_l0", "p_transit", "p_slip", "p_guess", "log_likelihood")
TRUTH = BktParams(0.3, 0.15, 0.1, 0.2)


def simulated(sizes: dict[str, int]) -> dict[str, AttemptWindow]:
    return {
        skill: simulate(TRUTH, n_students=n, seed=n, lengths=6, skill_id=skill) for skill, n in sizes.items()
    }


def frame_of(windows: dict[str, AttemptWindow], shuffle: bool = True) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "student_id": np.repeat(window.student_ids, np.diff(window.offsets)),
                "skill_id": skill,
                "is_correct": window.responses.astype(bool),
                "created_at": pd.to_datetime(window.answered_at, unit="us", utc=True),
            }
        )
        for skill, window in windows.items()
    ]
    df = pd.concat(parts, ignore_index=True)
    return df.sample(frac=1.0, random_state=1) if shuffle else df


@pytest.fixture(scope="module")
def windows() -> dict[str, AttemptWindow]:
    return simulated({"ratios": 40, "halves": 60, "one": 1})


@pytest.fixture(scope="module")
def params(windows: dict[str, AttemptWindow]) -> pd.DataFrame:
    return frames.fit(frame_of(windows), estimator="pooled", prior="school")


def test_a_fit_has_the_models_numbers(windows: dict[str, AttemptWindow], params: pd.DataFrame) -> None:
    assert list(params.index) == ["halves", "one", "ratios"]
    for key, fit in calibrate_all(windows, prior=learn_prior(windows), polished=True, estimator="pooled"):
        assert not isinstance(fit, Exception)
        row = params.loc[key]
        for prefix, each in {"": fit.pooled, "grid_": fit.params, "polished_": fit.polished}.items():
            assert [row[prefix + name] for name in NAMES] == [getattr(each, name) for name in NAMES]
        assert fit.uncertainty is not None
        for name in NAMES[:4]:
            estimate = getattr(fit.uncertainty, name)
            assert (row[f"{name}_low"], row[f"{name}_high"]) == (estimate.low, estimate.high)
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        assert (row["attempts"], row["students"]) == (fit.n_attempts, fit.n_students)
        assert row["flags"] == ", ".join(fit.evidence.flags)


def times_as_text(df: pd.DataFrame) -> pd.DataFrame:
    return df.assign(created_at=df["created_at"].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


def times_without_zone(df: pd.DataFrame) -> pd.DataFrame:
    return df.assign(created_at=df["created_at"].dt.tz_localize(None))


def other_types(df: pd.DataFrame) -> pd.DataFrame:
    return df.astype({"is_correct": float, "student_id": "category"})


def an_order_that_settles_equal_times(df: pd.DataFrame) -> pd.DataFrame:
    return df.assign(order=df["created_at"].rank(), created_at="2026-01-01")


@pytest.mark.parametrize(
    "change", [times_as_text, times_without_zone, other_types, an_order_that_settles_equal_times]
)
def test_every_form_of_the_columns_gives_the_same_sequences(
    windows: dict[str, AttemptWindow], change
) -> None:
    found = frames.windows(change(frame_of(windows)))
    assert list(found) == sorted(windows)
    for key, window in windows.items():
        assert found[key].student_ids == window.student_ids
        assert np.array_equal(found[key].responses, window.responses)
        assert np.array_equal(found[key].offsets, window.offsets)


FINE = pd.DataFrame(
    {"student_id": ["ann", "bob", "ann"], "skill_id": 7, "is_correct": [0, 1, 1], "created_at": "2026-01-31"},
    index=["x", "x", "y"],
)
SECRET = "ann"


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("student_id", ["ann", None, "ann"], "row 1, counted from 0: student_id is"),
        ("student_id", ["ann", "ann", "  "], "row 2, counted from 0: student_id is missing ('  ')"),
        ("student_id", [1.0, 2.0, 1.0], "row 0, counted from 0: student_id is a float"),
        ("student_id", [1.0, np.nan, 1.0], "row 1, counted from 0: student_id is nan"),
        ("student_id", [1, 2, "1"], "rows 0 and 2, counted from 0: student_id is the same text"),
        ("student_id", [["ann"], "bob", "ann"], "row 0, counted from 0: student_id is of type list"),
        ("skill_id", [7, 7, pd.NaT], "row 2, counted from 0: skill_id is NaT"),
        ("is_correct", [0, 2, 1], "row 1, counted from 0: is_correct is 2; an answer is"),
        ("is_correct", [0, 1, np.nan], "row 2, counted from 0: is_correct is nan; an answer is"),
        ("is_correct", ["1", "0", "1"], "row 0, counted from 0: is_correct is '1'; an answer is"),
        ("created_at", pd.to_datetime(["2026-01-31", None, "2026-01-31"]), "row 1, counted from 0: created_at is NaT"),
        ("created_at", ["2026-01-31", "2026-02-31", "now"], "row 1, counted from 0: created_at is 2026-02-31"),
        ("created_at", ["2026-01-31", "2026-01-31", "now"], "row 2, counted from 0: created_at is now"),
        ("created_at", [3, 1, 2], 'row 0, counted from 0: created_at is 3; give a date and time'),
        ("order", [1, 2, np.inf], "row 2, counted from 0: order is inf; give a finite number"),
    ],
)  # fmt: skip
def test_a_faulty_value_is_named_with_its_row(column: str, values: object, message: str) -> None:
    with pytest.raises(InvalidAttempts) as caught:
        frames.windows(FINE.reset_index(drop=True).assign(**{column: pd.Series(values)}))
    assert str(caught.value).startswith(message)
    assert "; " in str(caught.value)
    assert SECRET not in str(caught.value)


PARAMS = pd.DataFrame({"skill_id": [7], "p_l0": 0.3, "p_transit": 0.1, "p_slip": 0.1, "p_guess": 0.2})


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: frames.fit(FINE.drop(columns="is_correct")), InvalidAttempts,
         "no column 'is_correct' for is_correct; the frame has student_id, skill_id, created_at"),
        (lambda: frames.fit(FINE, columns={"order": "id"}), InvalidAttempts, "no column 'id' for order"),
        (lambda: frames.fit(FINE, columns={"student": "who"}), InvalidSettings, "columns maps 'student'"),
        (lambda: frames.fit(FINE[:0]), InvalidAttempts, "no rows"),
        (lambda: frames.fit(pd.concat([FINE, FINE], axis=1)), InvalidAttempts, "2 columns are called"),
        (lambda: frames.fit(FINE, estimator="em"), InvalidSettings, "estimator is 'em'"),
        (lambda: frames.fit(FINE, prior="flat"), InvalidSettings, "prior is 'flat'"),
        (lambda: frames.predict(FINE, PARAMS.assign(skill_id=8)), InvalidParams, "no row for skill '7'"),
        (lambda: frames.predict(FINE, PARAMS.assign(p_slip=0.7)), InvalidParams, "skill '7': p_slip is 0.7"),
        (lambda: frames.predict(FINE, PARAMS.drop(columns="p_l0")), InvalidParams, "no column 'p_l0'"),
        (lambda: frames.predict(FINE, pd.concat([PARAMS, PARAMS])), InvalidParams, "two rows for skill '7'"),
        (lambda: frames.calibration_curve(FINE, PARAMS, bins=0), InvalidSettings, "bins is 0"),
        (lambda: frames.evaluate(FINE, folds=1), InvalidSettings, "folds is 1"),
        (lambda: frames.evaluate(FINE, folds=3), InvalidSettings, "folds is 3, but there are 2 students"),
        (lambda: frames.evaluate(FINE, 2, by="klass"), InvalidAttempts, "no column 'klass'"),
        (lambda: frames.evaluate(FINE.assign(klass=[1, 2, 3]), 2, by="klass"), InvalidAttempts, "row 0, counted"),
        (lambda: frames.evaluate(FINE.assign(klass=[1, None, 1]), 2, by="klass"), InvalidAttempts, "row 1, counted"),
    ],
)  # fmt: skip
def test_what_cannot_be_computed_is_named(call, kind: type[BktError], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_predictions_are_in_the_rows_of_their_answers(
    windows: dict[str, AttemptWindow], params: pd.DataFrame
) -> None:
    df = frame_of(windows)
    found = frames.predict(df, params.reset_index())
    assert found.index.equals(df.index)
    for key, window in windows.items():
        rows = found[df["skill_id"] == key].sort_index()
        before, after = replay(window.responses, window.offsets, BktParams(*params.loc[key, list(NAMES[:4])]))
        assert np.array_equal(rows["p_known"], before)
        assert np.array_equal(rows["p_known_after"], after)
        assert rows["opportunity"].tolist() == [1, 2, 3, 4, 5, 6] * window.n_students


def test_the_curves_count_every_answer_once(windows: dict[str, AttemptWindow], params: pd.DataFrame) -> None:
    df = frame_of(windows)
    right = df["is_correct"].sum()
    learning = frames.learning_curve(df, params)
    assert learning.loc["halves", "students"].tolist() == [60] * 6
    assert round((learning["students"] * learning["observed"]).sum(), 6) == right
    calibration = frames.calibration_curve(df, params, bins=8)
    assert calibration["answers"].sum() == len(df)
    assert round((calibration["answers"] * calibration["observed"]).sum(), 6) == right
    assert calibration["predicted"].is_monotonic_increasing
    for curve in (learning, calibration):
        assert (curve["low"] <= curve["observed"]).all()
        assert (curve["observed"] <= curve["high"]).all()
    true = pd.DataFrame([TRUTH.values] * 3, list(windows), NAMES[:4])
    reliable = frames.calibration_curve(df, true, bins=4)
    assert reliable["predicted"].between(reliable["low"], reliable["high"]).all()


def test_each_student_is_predicted_by_a_fit_to_the_others(windows: dict[str, AttemptWindow]) -> None:
    df = frame_of(windows)
    # With as many folds as students, each fold is one student, whatever the order in which they are dealt out.
    two = df[df["student_id"].isin(["s000000", "s000001", "s000002"])]
    scores = frames.evaluate(two, folds=3)
    window = frames.windows(two)["halves"]
    for name in ("grid", "polished", "pooled", "default"):
        total = 0.0
        for student in range(3):
            held = np.arange(3) == student
            fitted = estimates(of_students(window, ~held))[name]
            total += log_likelihood(of_students(window, held), fitted)
        assert scores.loc[("halves", name), "log_likelihood"] == pytest.approx(total / 18, rel=1e-12)
    # One student alone is never predicted.
    assert set(scores.index.get_level_values("skill_id")) == {"halves", "ratios"}
    assert scores.loc[("halves", "constant"), "auc"] == 0.5
    assert (scores["attempts"] == 18).all()


def test_folds_do_not_depend_on_the_order_of_rows_and_keep_groups_together(
    windows: dict[str, AttemptWindow],
) -> None:
    df = frame_of(windows)
    df = df.assign(school=df["student_id"].str[-1])
    by_school = frames.evaluate(df, by="school")
    pd.testing.assert_frame_equal(by_school, frames.evaluate(df[::-1], by="school"))
    named = df.rename(columns={"student_id": "pupil"}).assign(student_id=0)
    mapped = frames.evaluate(named, by="school", columns={"student_id": "pupil"})
    pd.testing.assert_frame_equal(by_school, mapped)
    # Students as groups of their own give other folds.
    assert not by_school.equals(frames.evaluate(df))
    pd.testing.assert_frame_equal(frames.evaluate(df), frames.evaluate(df, by="student_id"))
