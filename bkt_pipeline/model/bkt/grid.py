"""The grid of parameter values that the search evaluates."""

from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidGrid

__all__ = ["DEFAULT_GRID", "Axis", "Grid"]

MAX_POINTS = 10_000_000


@dataclass(frozen=True)
class Axis:
    """The values start, start + step, … up to and including `stop`, as exact decimals.

    Parameters
    ----------
    start, stop, step : float
        First value, last value, distance. `stop` must be a value of the axis.

    Raises
    ------
    InvalidGrid
        If this is not a rising axis within [0, 1].

    Examples
    --------
    >>> Axis(0.05, 0.2, 0.05).values
    (0.05, 0.1, 0.15, 0.2)
    """

    start: float
    stop: float
    step: float

    def __post_init__(self) -> None:
        try:
            start, stop, step = self._decimals()
            fits = 0 <= start <= stop <= 1 and step > 0 and (stop - start) % step == 0
        except ArithmeticError:
            fits = False
        if not fits:
            raise InvalidGrid(
                f"axis from {self.start} to {self.stop} in steps of {self.step}; need 0 <= start <= stop <= 1 "
                "and a positive step that leads from start to stop"
            )

    def _decimals(self) -> tuple[Decimal, Decimal, Decimal]:
        return (
            Decimal(repr(float(self.start))),
            Decimal(repr(float(self.stop))),
            Decimal(repr(float(self.step))),
        )

    @cached_property
    def decimals(self) -> tuple[Decimal, ...]:
        """The values as decimals."""
        start, stop, step = self._decimals()
        return tuple(start + i * step for i in range(int((stop - start) / step) + 1))

    @cached_property
    def values(self) -> tuple[float, ...]:
        """The values as the nearest floats: 0.15, never 0.15000000000000002."""
        return tuple(float(value) for value in self.decimals)


_DEFAULT_AXIS = Axis(0.05, 0.95, 0.05)


@dataclass(frozen=True)
class Grid:
    """All combinations of the values on four axes with slip and guess within their bounds and slip + guess below 1.

    Parameters
    ----------
    p_l0, p_transit, p_slip, p_guess : Axis
        Values of each parameter. `p_l0`, `p_slip` and `p_guess` must be strictly between 0 and 1, so that no answer
        is impossible at any point.
    max_slip, max_guess : float
        Points beyond these bounds are left out; at most 0.5.

    Raises
    ------
    InvalidGrid
        If an axis or a bound is invalid. A grid without any point within its bounds is allowed; it gives the safe
        default.

    Examples
    --------
    >>> DEFAULT_GRID.shape, DEFAULT_GRID.n_points
    ((19, 19, 99), 35739)
    >>> fine = Grid(p_l0=Axis(0.2, 0.4, 0.01), p_transit=Axis(0.01, 0.1, 0.01))
    >>> fine.n_points
    20790
    """

    p_l0: Axis = _DEFAULT_AXIS
    p_transit: Axis = _DEFAULT_AXIS
    p_slip: Axis = _DEFAULT_AXIS
    p_guess: Axis = _DEFAULT_AXIS
    max_slip: float = field(default=0.5)
    max_guess: float = field(default=0.5)

    def __post_init__(self) -> None:
        for name in ("p_l0", "p_slip", "p_guess"):
            values = getattr(self, name).values
            if values[0] <= 0 or values[-1] >= 1:
                raise InvalidGrid(
                    f"{name} runs from {values[0]} to {values[-1]}; it must stay strictly between 0 and 1"
                )
        for name in ("max_slip", "max_guess"):
            if not 0 < getattr(self, name) <= 0.5:
                raise InvalidGrid(f"{name} is {getattr(self, name)}; it must be in (0, 0.5]")
        if self.n_points > MAX_POINTS:
            raise InvalidGrid(
                f"the grid has {self.n_points:,} points; at most {MAX_POINTS:,} fit (widen a step or narrow a range)"
            )

    @cached_property
    def slip_guess(self) -> npt.NDArray[np.float64]:
        """The valid pairs of (slip, guess) in lexicographic order, shape (n_pairs, 2)."""
        top_slip, top_guess = Decimal(repr(float(self.max_slip))), Decimal(repr(float(self.max_guess)))
        pairs = [
            (float(slip), float(guess))
            for slip in self.p_slip.decimals
            for guess in self.p_guess.decimals
            if slip <= top_slip and guess <= top_guess and slip + guess < 1
        ]
        return np.array(pairs, np.float64).reshape(-1, 2)

    @cached_property
    def lanes(self) -> npt.NDArray[np.float64]:
        """(p_transit, p_slip, p_guess) of all points with one p_l0, in lexicographic order, shape (n, 3)."""
        transit = np.array(self.p_transit.values)
        pairs = self.slip_guess
        return np.column_stack([np.repeat(transit, len(pairs)), np.tile(pairs, (len(transit), 1))])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(values of p_l0, values of p_transit, pairs of slip and guess): the shape of a surface on this grid."""
        return len(self.p_l0.values), len(self.p_transit.values), len(self.slip_guess)

    @property
    def n_points(self) -> int:
        """The number of points that the search evaluates."""
        prior, transit, pairs = self.shape
        return prior * transit * pairs

    def point(self, index: int) -> tuple[float, float, float, float]:
        """(p_l0, p_transit, p_slip, p_guess) at a flat index; indices follow lexicographic order."""
        prior, lane = divmod(index, len(self.lanes))
        transit, slip, guess = self.lanes[lane].tolist()
        return self.p_l0.values[prior], transit, slip, guess


DEFAULT_GRID = Grid()
