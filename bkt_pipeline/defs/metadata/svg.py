"""Draws small pictures as SVG, for the Markdown that the Dagster UI shows: a millisecond and a few kB each.

The UI keeps only `img` elements, so a picture is a data URI. It has a white background of its own, because Dagster has
a light and a dark theme. All colours have a contrast of at least 4 to 1 against it, and no meaning is carried by
colour alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from xml.sax.saxutils import escape

from bkt_pipeline.calibration.labels import one_line

INK, GREY, RULE = "#24292f", "#57606a", "#d0d7de"
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#a85a00", "#007a55", "#c23b00"
_STYLE = (
    f"text{{font:11px system-ui,sans-serif;fill:{GREY}}}.t{{font-weight:600;fill:{INK}}}.h{{font-size:14px}}"
    ".m{text-anchor:middle}.e{text-anchor:end}path{fill:none;stroke-width:1.5;stroke-linejoin:round}"
)
# What has a meaning in a URI or in Markdown; an SVG has no other characters, as it is ASCII on one line.
_ENCODED = tuple((character, f"%{ord(character):02X}") for character in '% "#&()<>[\\]^`{|}')

Values = Sequence[float]


class Picture:
    """An SVG of a fixed size in pixels. Text in it is escaped, and shown on one line."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self._parts = [
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{width:g}' height='{height:g}' role='img'>"
            f"<title>{_text(title)}</title><style>{_STYLE}</style>"
            f"<rect x='.5' y='.5' width='{width - 1:g}' height='{height - 1:g}' rx='6' fill='#fff' stroke='{RULE}'/>"
        ]

    def add(self, element: str) -> None:
        """Add an element, which must already be valid SVG."""
        self._parts.append(element)

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        """Write words at a point; the letters of `kind` are t (ink, bold), h (large), m (centred), e (ends there)."""
        self.add(_label(x, y, words, kind))

    @property
    def svg(self) -> str:
        """The picture as one line of ASCII."""
        return "".join(self._parts).encode("ascii", "xmlcharrefreplace").decode() + "</svg>"

    def markdown(self, alternative: str) -> str:
        """The picture as an image in Markdown; `alternative` is Markdown that says the same in words."""
        uri = self.svg
        for character, code in _ENCODED:
            uri = uri.replace(character, code)
        return f"![{alternative}](data:image/svg+xml,{uri})"


@dataclass(frozen=True)
class Axes:
    """A rectangle of a picture, and the ranges of the values that it shows. Values outside are drawn at its edge."""

    picture: Picture
    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def frame(
        self,
        title: str,
        x_ticks: Mapping[float, str],
        y_ticks: Mapping[float, str],
        x_label: str = "",
        y_label: str = "",
    ) -> None:
        """Draw the ticks, their rules and the labels."""
        right, bottom = self.left + self.width, self.top + self.height
        rules = "".join(f"M{self.left:g},{self.at_y(tick):.4g}H{right:g}" for tick in y_ticks)
        self.picture.add(f"<path d='{rules}M{self.left:g},{bottom:g}H{right:g}' stroke='{RULE}'/>")
        for tick, words in y_ticks.items():
            self.picture.text(self.left - 5, self.at_y(tick) + 4, words, "e")
        for tick, words in x_ticks.items():
            self.picture.text(self.at_x(tick), bottom + 14, words, "m")
        self.picture.text(self.left, self.top - 9, title, "t")
        if x_label:
            self.picture.text(self.left + self.width / 2, bottom + 28, x_label, "m")
        if y_label:
            x, y = f"{self.left - 32:g}", f"{self.top + self.height / 2:g}"
            self.picture.add(
                f"<text x='{x}' y='{y}' class='m' transform='rotate(-90 {x} {y})'>{_text(y_label)}</text>"
            )

    def at_x(self, value: float) -> float:
        """Where the value is, in pixels from the left of the picture; NaN if it is missing."""
        return _place(value, self.left, self.width, *self.x)

    def at_y(self, value: float) -> float:
        """Where the value is, in pixels from the top of the picture; NaN if it is missing."""
        return self._down((value,))[0]

    def line(self, xs: Values, ys: Values, colour: str, *, dashed: bool = False) -> None:
        """Connect the points; the line has a gap where a value is missing."""
        points = self._points(xs, ys)
        path = "".join(f"M{' '.join(points[run])}" for run in _runs(ys))
        self._path(path, f"stroke='{colour}'" + " stroke-dasharray='5 3'" * dashed)

    def band(self, xs: Values, lows: Values, highs: Values, colour: str) -> None:
        """Fill the area between two lines, with a gap where one of them is missing."""
        low, high = self._points(xs, lows), self._points(xs, highs)
        path = "".join(f"M{' '.join((*high[run], *reversed(low[run])))}Z" for run in _runs(lows, highs))
        self._path(path, f"style='fill:{colour};stroke:none' opacity='.22'")

    def dots(self, xs: Values, ys: Values, colour: str, size: float = 5.0) -> None:
        """Draw a dot at each point that is not missing."""
        places = zip(self._across(xs), self._down(ys), strict=True)
        path = "".join([f"M{x},{y:.4g}h0" for x, y in places if not math.isnan(y)])
        self._path(path, f"stroke='{colour}' stroke-linecap='round' style='stroke-width:{size:.4g}'")

    def whiskers(self, xs: Values, lows: Values, highs: Values, colour: str) -> None:
        """Draw a vertical line from low to high at each point that is not missing."""
        places = zip(self._across(xs), self._down(lows), self._down(highs), strict=True)
        path = "".join(
            [f"M{x},{low:.4g}V{high:.4g}" for x, low, high in places if not math.isnan(low + high)]
        )
        self._path(path, f"stroke='{colour}'")

    def spans(self, lows: Values, highs: Values, ys: Values, colour: str) -> None:
        """Draw a horizontal line from low to high at each point that is not missing."""
        points = self._points(lows, ys)
        places = [place for run in _runs(lows, highs) for place in range(len(points))[run]]
        self._path("".join(f"M{points[i]}H{self.at_x(highs[i]):.4g}" for i in places), f"stroke='{colour}'")

    def _points(self, xs: Values, ys: Values) -> list[str]:
        return [f"{x},{y:.4g}" for x, y in zip(self._across(xs), self._down(ys), strict=True)]

    def _across(self, xs: Values) -> tuple[str, ...]:
        return _across(tuple(xs), self.left, self.width, *self.x)

    def _down(self, ys: Values) -> list[float]:
        (low, high), top, height = self.y, self.top, self.height
        return [
            top + height * (high - (low if y < low else high if y > high else y)) / (high - low) for y in ys
        ]

    def _path(self, path: str, style: str) -> None:
        if path:
            self.picture.add(f"<path d='{path}' {style}/>")


def _runs(*values: Values) -> list[slice]:
    """The longest stretches of places where all values are present."""
    missing = {place for some in values for place, value in enumerate(some) if math.isnan(value)}
    ends = [-1, *sorted(missing), len(values[0])]
    return [slice(before + 1, end) for before, end in pairwise(ends) if before + 1 < end]


# The series of a picture have the same xs, and so have most skills of a night.
@lru_cache(maxsize=256)
def _across(xs: tuple[float, ...], left: float, width: float, low: float, high: float) -> tuple[str, ...]:
    return tuple(f"{_place(x, left, width, low, high):.4g}" for x in xs)


def _place(value: float, start: float, length: float, low: float, high: float) -> float:
    return start + length * (min(max(value, low), high) - low) / (high - low)


# Most labels are on every page.
@lru_cache(maxsize=1024)
def _label(x: float, y: float, words: str, kind: str) -> str:
    classes = f" class='{' '.join(kind)}'" if kind else ""
    return f"<text x='{x:.4g}' y='{y:.4g}'{classes}>{_text(words)}</text>"


def _text(words: str) -> str:
    return escape(words if words.isprintable() else one_line(words), {"'": "&#39;"})
