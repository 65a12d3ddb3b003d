"""The item response curve: its values, its tails and its shapes."""

import math
import subprocess
import sys

import numpy as np
import pytest

from bkt_pipeline.model.irt.curve import ability, information, probability


def test_ability_is_the_clipped_logit():
    assert ability([0.05, 0.5, 0.95, 0.0, 1.0, 1 + 1e-12]) == pytest.approx(
        [-math.log(19), 0.0, math.log(19), -math.log(999), math.log(999), math.log(999)]
    )
    assert np.isnan(ability([1.5, -0.1, math.nan])).all()
    assert ability(0.3).shape == ()
    assert ability([[0.2], [0.8]]).shape == (2, 1)


def test_information_is_a_squared_p_q_and_keeps_its_tails():
    assert float(information(0.7, 1.3, 0.7)) == pytest.approx(1.3**2 / 4)
    p = probability(1.0, 1.3, -0.4)
    assert float(information(1.0, 1.3, -0.4)) == pytest.approx(float(1.3**2 * p * (1 - p)))
    assert float(information(30.0, 2.0, 0.0)) == pytest.approx(4 * math.exp(-60))
    np.testing.assert_allclose(information([-300.0, 300.0], 2.0, 0.0), 4 * np.exp(-600.0))
    assert information([[0.0], [1.0]], [1.0, 2.0, 3.0], 0.0).shape == (2, 3)


def test_asking_for_the_information_does_not_load_numba():
    code = "import sys; from bkt_pipeline.model.irt.curve import information; information(0, 1, 0)"
    code += "; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
