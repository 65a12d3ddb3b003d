"""Real answers give the numbers that were published for them."""

import math

import pytest

from bkt_pipeline.model import calibrate_all
from bkt_pipeline_tests.helpers import glops


@glops.needs_glops
def test_the_grid_and_the_polish_reach_what_they_must():
    fits = dict(calibrate_all(glops.windows(), polished=True))
    assert len(fits) == 42
    assert sum(fit.n_attempts for fit in fits.values()) == 70_668
    grid = math.fsum(fit.params.log_likelihood for fit in fits.values())
    polished = math.fsum(fit.polished.log_likelihood for fit in fits.values())
    assert grid == pytest.approx(-42_823.9, abs=0.05)
    assert polished == pytest.approx(-42_722.2, abs=0.5)
    for fit in fits.values():
        assert fit.polished.log_likelihood >= fit.params.log_likelihood
        assert fit.uncertainty.p_transit.profile_low < fit.uncertainty.p_transit.profile_high
