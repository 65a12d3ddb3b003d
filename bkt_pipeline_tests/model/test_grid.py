"""The grid is the contract's, exact in its decimals, and any other that makes sense."""

import numpy as np
import pytest

from bkt_pipeline.errors import InvalidGrid
from bkt_pipeline.model import DEFAULT_GRID, Axis, Grid
from bkt_pipeline_tests.helpers import reference


def test_the_default_is_the_contract():
    points = [DEFAULT_GRID.point(index) for index in range(DEFAULT_GRID.n_points)]
    assert len(points) == 35_739
    assert points == [tuple(point) for point in reference.default_points().tolist()]


def test_lanes_are_the_points_of_one_prior():
    lanes = DEFAULT_GRID.lanes
    assert lanes.shape == (19 * 99, 3)
    np.testing.assert_array_equal(lanes[-1], DEFAULT_GRID.point(DEFAULT_GRID.n_points - 1)[1:])


def test_half_and_half_is_out_whatever_the_floats_say():
    assert [0.5, 0.5] not in DEFAULT_GRID.slip_guess.tolist()
    assert [0.5, 0.45] in DEFAULT_GRID.slip_guess.tolist()


def test_narrower_bounds():
    grid = Grid(max_slip=0.1, max_guess=0.3)
    assert grid.slip_guess.max(axis=0).tolist() == [0.1, 0.3]


def test_hundredths_are_exact():
    assert repr(Axis(0.01, 0.29, 0.01).values[-1]) == "0.29"
    assert Axis(0.07, 0.07, 0.01).values == (0.07,)


@pytest.mark.parametrize(
    "axis",
    [(0.5, 0.1, 0.1), (0.1, 0.5, 0.0), (0.1, 0.5, -0.1), (0.1, 0.5, 0.3), (-0.1, 0.5, 0.1), (0.5, 1.5, 0.5)],
)
def test_an_axis_must_rise_within_0_and_1(axis):
    with pytest.raises(InvalidGrid, match="need 0 <= start <= stop <= 1"):
        Axis(*axis)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_axis_must_be_finite(value):
    with pytest.raises(InvalidGrid):
        Axis(0.0, 0.5, value)


@pytest.mark.parametrize("name", ["p_l0", "p_slip", "p_guess"])
def test_no_answer_may_be_impossible(name):
    with pytest.raises(InvalidGrid, match=rf"{name} runs from 0\.0"):
        Grid(**{name: Axis(0.0, 0.5, 0.1)})


def test_transit_may_be_0():
    assert Grid(p_transit=Axis(0.0, 1.0, 0.5)).shape[1] == 3


def test_bounds_must_make_sense():
    with pytest.raises(InvalidGrid, match=r"max_slip is 0\.6"):
        Grid(max_slip=0.6)


def test_a_grid_must_fit_into_memory():
    fine = Axis(0.01, 0.99, 0.01)
    with pytest.raises(InvalidGrid, match="at most 10,000,000"):
        Grid(fine, fine, fine, fine)
