"""Small plots for the Dagster UI. They need matplotlib (the extra `ui`); without it, runs continue without plots.

The colours are those of Okabe and Ito, which colour-blind readers can distinguish, with a darker orange. Lines and
text are mid-grey on a transparent background. Every colour has a contrast of at least 3 to 1 (text 4 to 1) against
both the white of the light UI and the black of the dark one, and no meaning is carried by colour alone.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from bkt_pipeline.calibration.labels import in_markdown, labels, shortened
from bkt_pipeline.db.nights import SkillNight
from bkt_pipeline.db.schema import PARAMETERS
from bkt_pipeline.errors import install_extra
from bkt_pipeline.model import AttemptWindow, BktParams, SkillFit, log_likelihood
from bkt_pipeline.model.bkt.prediction import predictions, wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = tuple(PARAMETERS)
MISSING = f"no picture: matplotlib is not installed; {install_extra('ui')}"
GREY = "#777777"
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#C78500", "#009E73", "#D55E00"
COLOURS = (BLUE, GREEN, VERMILION, ORANGE)  # of the four parameters, in their order
LEAST_STUDENTS = 5  # an opportunity reached by fewer students is not drawn: its rate would be noise
MOST_OPPORTUNITIES = 15
LONGEST_LABEL = 24  # characters of a skill in a picture
SURFACE_STEPS = 15
PICTURE_COLOURS = 48


def skill_picture(window: AttemptWindow, fit: SkillFit, label: str = "") -> dg.MetadataValue | str:
    """The learning curve and the log-likelihood over slip and guess, or why there is no picture."""
    if find_spec("matplotlib") is None:
        return MISSING
    figure, (curve, surface) = figure_of(7.0, 2.7, 2)
    _draw_curve(curve, window, fit.published)
    _draw_surface(surface, window, fit)
    return shown(figure, f"learning curve and log-likelihood surface of {in_markdown(label or fit.skill_id)}")


def night_picture(
    night: Sequence[SkillNight], moves: Sequence[SkillNight], names: Mapping[str, str] | None = None
) -> dg.MetadataValue | str:
    """Every skill's parameters, the largest changes and the outcomes, or why there is no picture."""
    if find_spec("matplotlib") is None:
        return MISSING
    figure, (spread, moved, became) = figure_of(10.0, 3.4, 3, widths=(1.1, 1.4, 0.7))
    _draw_parameters(spread, [skill.params for skill in night if skill.params])
    _draw_moves(moved, moves, labels([skill.skill_id for skill in moves], _drawable(names or {})))
    _draw_outcomes(became, night)
    return shown(figure, "parameters, moves and outcomes of the night")


def learning_curve(
    window: AttemptWindow, params: BktParams
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each opportunity: students who reached it, share of right answers, its 95% band, predicted share.

    The band is Wilson's, which stays between 0 and 1. The prediction is the mean of P(right) given each student's
    earlier answers, so it covers the same students as the observed share.
    """
    lengths = np.diff(window.offsets)
    opportunity = np.arange(window.n_attempts) - np.repeat(window.offsets[:-1], lengths)
    reached = np.bincount(opportunity)
    observed = np.bincount(opportunity, window.responses) / reached
    predicted = np.bincount(opportunity, predictions(window, params)) / reached
    return (
        reached,
        observed,
        np.stack(wilson_interval(observed * reached, reached.astype(np.float64))),
        predicted,
    )


def _draw_curve(axes: "Axes", window: AttemptWindow, params: BktParams) -> None:
    reached, observed, band, predicted = learning_curve(window, params)
    n = max(1, min(MOST_OPPORTUNITIES, int((reached >= LEAST_STUDENTS).sum())))
    x = np.arange(1, n + 1)
    axes.fill_between(x, band[0, :n], band[1, :n], color=BLUE, alpha=0.35, linewidth=0, label="95% band")
    axes.plot(x, observed[:n], "o-", color=BLUE, markersize=4, linewidth=1, label="observed")
    axes.plot(x, predicted[:n], "s--", color=ORANGE, markersize=3.5, linewidth=1.6, label="predicted")
    axes.set_ylim(0, 1)
    axes.set_title("right answers by opportunity")
    axes.set_xlabel("opportunity")
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, labelcolor=GREY, fontsize=9, loc="lower right")


def _draw_surface(axes: "Axes", window: AttemptWindow, fit: SkillFit) -> None:
    slips = guesses = np.linspace(0.02, 0.5, SURFACE_STEPS)
    best = fit.published
    below = np.array(
        [
            [
                log_likelihood(window, BktParams(best.p_l0, best.p_transit, slip, min(guess, 0.999 - slip)))
                for slip in slips
            ]
            for guess in guesses
        ]
    ) - log_likelihood(window, best)
    levels = [-1e9, -30, -10, -5, -1.92, 1e9]
    axes.contourf(slips, guesses, below, levels=levels, colors=_shades(len(levels) - 1))
    axes.contour(slips, guesses, below, levels=levels[1:-1], colors=GREY, linewidths=0.7, linestyles="-")
    axes.plot([best.p_slip], [best.p_guess], "*", color=VERMILION, markersize=11)
    axes.set_title("log-likelihood: 2, 5, 10, 30 below ★")
    axes.set_xlabel("slip")
    axes.set_ylabel("guess", color=GREY)


def _draw_parameters(axes: "Axes", params: Sequence[BktParams]) -> None:
    values = np.array([one.values for one in params]).reshape(-1, 4)
    for place, colour in enumerate(COLOURS):
        levels, counts = np.unique(np.round(values[:, place], 3), return_counts=True)
        axes.scatter(
            np.full(levels.size, place),
            levels,
            s=8 + 150 * counts / max(len(params), 1),
            color=colour,
            linewidth=0,
        )
        if len(params):
            axes.plot(
                [place - 0.3, place + 0.3], [np.median(values[:, place])] * 2, color=GREY, linewidth=1.5
            )
    axes.set_xticks(range(4), NAMES)
    axes.set_ylim(0, 1)
    axes.set_title(f"parameters of {len(params)} skills (bar: median)")


def _drawable(names: Mapping[str, str]) -> dict[str, str]:
    """The names that the picture's font has all characters of; a skill with another is shown by its id."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    return {key: name for key, name in names.items() if all(ord(character) in known for character in name)}


def _draw_moves(axes: "Axes", moves: Sequence[SkillNight], called: Mapping[str, str]) -> None:
    axes.set_title("largest moves since the night before")
    for row, skill in enumerate(reversed(moves)):
        assert skill.params is not None
        assert skill.previous is not None
        place = skill.moved_most
        before, after = skill.previous.values[place], skill.params.values[place]
        colour = COLOURS[place]
        axes.annotate(
            "",
            (after, row),
            (before, row),
            arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.5},
        )
        axes.plot([before], [row], "o", color=colour, markersize=4)
    axes.set_yticks(
        range(len(moves)),
        [
            f"{shortened(called[skill.skill_id], LONGEST_LABEL)} {NAMES[skill.moved_most]}"
            for skill in reversed(moves)
        ],
        # Otherwise a $ in a name would begin a formula.
        parse_math=False,
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, max(len(moves), 1) - 0.4)
    if not moves:
        axes.text(0.5, 0.2, "none", color=GREY, ha="center", va="center")


def _draw_outcomes(axes: "Axes", night: Sequence[SkillNight]) -> None:
    colours = {"calibrated": GREEN, "skipped": ORANGE, "overtaken": BLUE, "failed": VERMILION}
    counts = [sum(skill.outcome == outcome for skill in night) for outcome in colours]
    axes.barh(range(4), counts, color=list(colours.values()))
    for row, count in enumerate(counts):
        axes.text(count, row, f" {count}", color=GREY, va="center", fontsize=9)
    axes.set_yticks(range(4), list(colours))
    axes.set_xlim(0, 1.25 * max(*counts, 1))
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.set_title("outcomes")


def _shades(n: int) -> list[tuple[float, float, float, float]]:
    """One hue from transparent to nearly opaque, legible on any background."""
    return [(0.0, 0.45, 0.70, alpha) for alpha in np.linspace(0.05, 0.75, n)]


def figure_of(
    width: float, height: float, n: int, widths: Sequence[float] | None = None
) -> "tuple[Figure, Any]":
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.06)
    figure = Figure((width, height), dpi=80, layout=layout, facecolor="none")
    axes = figure.subplots(1, n, width_ratios=widths)
    for one in axes:
        one.set_facecolor("none")
        one.tick_params(colors=GREY, labelsize=9)
        one.title.set(color=GREY, fontsize=10.5)
        one.xaxis.label.set(color=GREY, fontsize=9.5)
        for spine in one.spines.values():
            spine.set_color(GREY)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def png(figure: "Figure") -> bytes:
    """The figure as a PNG with few colours, a third of the usual size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    out = io.BytesIO()
    picture.quantize(PICTURE_COLOURS, Image.Quantize.FASTOCTREE).save(out, "PNG", optimize=True)
    return out.getvalue()


def shown(figure: "Figure", what: str) -> dg.MetadataValue:
    encoded = base64.b64encode(png(figure)).decode()
    return dg.MetadataValue.md(f"![{what}](data:image/png;base64,{encoded})")
