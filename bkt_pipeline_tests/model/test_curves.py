"""Learning curves, and answers counted by their prediction."""

import numpy as np
import pytest

from bkt_pipeline.model import BktParams, calibrate
from bkt_pipeline.model.bkt.curves import BINS, expected_curve, learning_curve
from bkt_pipeline.model.bkt.prediction import hold_out, predictions
from bkt_pipeline.model.simulate import simulate

TRUTH = BktParams(0.3, 0.15, 0.1, 0.2)


def test_the_learning_curve_is_by_opportunity() -> None:
    window = simulate(TRUTH, n_students=4000, seed=1)
    curve = learning_curve(window, TRUTH)
    assert curve.students[0] == 4000
    assert curve.students.sum() == window.n_attempts
    assert curve.observed[0] == pytest.approx(np.mean(window.responses[window.offsets[:-1]]))
    assert curve.predicted[0] == pytest.approx(expected_curve(TRUTH, 1)[0])
    assert curve.predicted[:4] == pytest.approx(expected_curve(TRUTH, 4), abs=0.03)
    assert (curve.low <= curve.observed).all()
    assert (curve.observed <= curve.high).all()
    assert np.isnan(learning_curve(window, None).predicted).all()


def test_a_fit_counts_its_held_out_answers_by_their_prediction() -> None:
    window = simulate(TRUTH, n_students=400, seed=1)
    found = calibrate(window, scored=True, polished=True).held_out
    assert found is not None
    _, held = hold_out(window)
    for name, counted in found.reliability.items():
        predicted = predictions(held, found.params[name])
        assert sum(counted.answers) == found.attempts
        assert sum(counted.right) == held.responses.sum()
        assert sum(counted.predicted) == pytest.approx(predicted.sum())
        assert counted.answers[3] == ((predicted >= 3 / BINS) & (predicted < 4 / BINS)).sum()
        assert counted.gap is not None
        assert counted.gap < 0.1
