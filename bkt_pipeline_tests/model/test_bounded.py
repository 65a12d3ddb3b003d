"""A search that skips lanes finds what the full search finds, because the bounds of these lanes hold."""

import numpy as np
import pytest

from bkt_pipeline.model import DEFAULT_GRID, AttemptObservation, Axis, BktParams, Grid, calibrate_skill
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.bounded import Corners
from bkt_pipeline.model.bkt.search import search
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests.helpers.windows import sequences, window

RNG = np.random.default_rng(11)
NARROW = Axis(0.2, 0.25, 0.05)
LARGE = {
    "default": DEFAULT_GRID,
    "hundredths": Grid(NARROW, Axis(0.01, 0.3, 0.01), Axis(0.01, 0.2, 0.01), Axis(0.1, 0.5, 0.02)),
    "all of transit": Grid(NARROW, Axis(0.0, 1.0, 0.02), Axis(0.1, 0.4, 0.1), Axis(0.04, 0.48, 0.04)),
    "near the bounds": Grid(
        Axis(0.0001, 0.9901, 0.11), Axis(0.0001, 0.9601, 0.04), Axis(0.0001, 0.4501, 0.05), NARROW
    ),
    "one transit, one guess": Grid(NARROW, Axis(0.1, 0.1, 0.1), Axis(0.005, 0.5, 0.005), Axis(0.2, 0.2, 0.1)),
    "two slips": Grid(p_slip=Axis(0.45, 0.5, 0.05), p_guess=Axis(0.02, 0.98, 0.02), max_guess=0.3),
}
SMALL = {
    "one point": Grid(*[Axis(0.3, 0.3, 0.1)] * 4),
    "few lanes": Grid(DEFAULT_GRID.p_l0, NARROW, NARROW, NARROW),
}
ANSWERS = {
    "typical": sequences(simulate(BktParams(0.3, 0.12, 0.1, 0.2), n_students=80, seed=1)),
    "between the corners": sequences(simulate(BktParams(0.23, 0.07, 0.07, 0.33), n_students=90, seed=2)),
    "short": sequences(simulate(BktParams(0.6, 0.4, 0.3, 0.1), n_students=300, seed=3, lengths=3)),
    "one answer": [[1]] * 30 + [[0]] * 20,
    "all right": [[1] * n for n in (1, 3, 8, 40)],
    "all wrong": [[0] * n for n in (1, 3, 8, 40)],
    "right, then wrong": [[1] * 200 + [0] * 200],
    "random": [RNG.integers(0, 2, n).tolist() for n in range(1, 40)],
}


@pytest.mark.parametrize("grid", [*LARGE.values(), *SMALL.values()], ids=[*LARGE, *SMALL])
def test_the_winner_is_that_of_the_full_search_and_every_bound_holds(grid):
    corners = Corners.of(grid)
    assert (2 * len(corners.lanes) <= len(grid.lanes)) == (grid in LARGE.values())
    for answers in ANSWERS.values():
        view = window(answers)
        own = DistinctSequences.of(view)
        params, surface = search(view.responses, view.offsets, own, grid)
        attempts = [
            AttemptObservation(student, "skill", answer, time)
            for student, sequence in enumerate(answers)
            for time, answer in enumerate(sequence)
        ]
        assert repr(calibrate_skill(attempts, grid)) == repr(params)
        bounds = corners.bounds(own.surface(corners.prior, corners.lanes).max(axis=0), view.offsets)
        assert (bounds >= surface.reshape(-1, bounds.size).max(axis=0)).all()


@pytest.mark.parametrize("case", ["typical", "between the corners"])
def test_most_lanes_of_a_typical_skill_are_out_of_reach(case):
    view = window(ANSWERS[case])
    own, corners = DistinctSequences.of(view), Corners.of(DEFAULT_GRID)
    known = own.surface(corners.prior, corners.lanes).max(axis=0)
    in_reach = corners.bounds(known, view.offsets) >= known[corners.on_grid].max()
    assert in_reach.mean() < 0.1
