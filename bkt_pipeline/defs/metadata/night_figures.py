"""The pictures of the morning's page: moves, reliability beside the estimators, and the map of the items."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from bkt_pipeline.calibration.labels import in_markdown, shortened
from bkt_pipeline.db.nights import SkillNight
from bkt_pipeline.db.schema import PARAMETERS
from bkt_pipeline.defs.metadata.svg import BLUE, GREEN, GREY, ORANGE, RULE, Axes, Picture
from bkt_pipeline.model.bkt.curves import Reliability, expected_curve
from bkt_pipeline.model.bkt.prediction import wilson_interval
from bkt_pipeline.model.irt.fits import ItemStatus
from bkt_pipeline.model.irt.two_pl import A_BOUNDS, B_BOUNDS

NAMES = tuple(PARAMETERS)
DRAWN_MOVES = 6
OPPORTUNITIES = 12
LEAST_ANSWERS = 5  # a bin with fewer is not drawn
LONGEST_LABEL = 32
CELLS = (40, 24)  # of the map of items, across and up
SHARES = {0.0: "0", 0.5: "50%", 1.0: "100%"}
SIZES = {1: 2.5, 4: 4.0, 15: 6.0, math.inf: 8.5}  # pixels of a dot that stands for at most so many items


def moves_picture(moves: Sequence[SkillNight], called: Mapping[str, str]) -> str:
    """The expected learning curves before and after the largest moves."""
    shown = moves[:DRAWN_MOVES]
    picture = Picture(900, 46 + 140 * math.ceil(len(shown) / 3), "Largest moves")
    picture.text(16, 24, "P(right) by opportunity, of a student of whom no answer is known", "t")
    picture.text(600, 24, "the night before", "e")
    picture.text(760, 24, "this night", "e")
    picture.add(f"<path d='M606,20h30' stroke='{ORANGE}' stroke-dasharray='5 3'/>")
    picture.add(f"<path d='M766,20h30' stroke='{BLUE}'/>")
    xs, words = list(range(1, OPPORTUNITIES + 1)), []
    for place, skill in enumerate(shown):
        assert skill.params is not None
        assert skill.previous is not None
        axes = Axes(
            picture, 56 + 290 * (place % 3), 66 + 140 * (place // 3), 220, 70, (1, OPPORTUNITIES), (0, 1)
        )
        most = skill.moved_most
        before, after = skill.previous.values[most], skill.params.values[most]
        change = f"{NAMES[most]} {before:.3g} → {after:.3g}"
        axes.frame(
            shortened(called[skill.skill_id], LONGEST_LABEL),
            {1: "1", OPPORTUNITIES: str(OPPORTUNITIES)},
            SHARES,
            change,
        )
        axes.line(xs, expected_curve(skill.previous, OPPORTUNITIES).tolist(), ORANGE, dashed=True)
        axes.line(xs, expected_curve(skill.params, OPPORTUNITIES).tolist(), BLUE)
        words.append(f"{in_markdown(called[skill.skill_id])}: {change}")
    return picture.markdown("; ".join(words))


def evidence_picture(
    found: Reliability, gains: Mapping[str, tuple[float, float]], published: str, skills: int
) -> str:
    """Predicted against observed shares of held-out answers, and what each estimator gains over a constant rate."""
    picture = Picture(900, 268, "Reliability and estimators on held-out answers")
    words = f"{_reliability(picture, found)}; {_estimators(picture, gains, published)}"
    picture.text(
        56,
        257,
        f"{sum(found.answers):,} answers of {skills:,} skills, of students who were held out of the fit",
    )
    return picture.markdown(words)


def _reliability(picture: Picture, found: Reliability) -> str:
    axes = Axes(picture, 56, 46, 300, 150, (0, 1), (0, 1))
    axes.frame("Right answers, observed (dots) and predicted (line)", SHARES, SHARES, "predicted P(right)")
    axes.line([0.0, 1.0], [0.0, 1.0], GREY, dashed=True)
    answers = np.array(found.answers, np.float64)
    drawn = answers >= LEAST_ANSWERS
    answers, right = answers[drawn], np.array(found.right, np.float64)[drawn]
    predicted = (np.array(found.predicted)[drawn] / answers).tolist()
    low, high = wilson_interval(right, answers)
    axes.whiskers(predicted, low.tolist(), high.tolist(), BLUE)
    axes.dots(predicted, (right / answers).tolist(), BLUE, 6.0)
    picture.text(56, 243, "vertical lines: Wilson's 95% interval, answers taken as independent")
    pairs = zip(predicted, (right / answers).tolist(), strict=True)
    return "predicted and observed share of right answers: " + ", ".join(
        f"{p:.0%} and {o:.0%}" for p, o in pairs
    )


def _estimators(picture: Picture, gains: Mapping[str, tuple[float, float]], published: str) -> str:
    shown = {name: gain for name, gain in gains.items() if name != "constant"}
    error = {name: 1.96 * error if math.isfinite(error) else 0.0 for name, (_, error) in shown.items()}
    low = min(0.0, *(mean - error[name] for name, (mean, _) in shown.items()))
    high = max(0.0, *(mean + error[name] for name, (mean, _) in shown.items()))
    margin = max(0.05 * (high - low), 0.1)
    axes = Axes(picture, 500, 46, 290, 150, (low - margin, high + margin), (0, len(shown)))
    ticks = {0.0: "0", high: f"{high:.0f}"} if high > margin else {0.0: "0"}
    axes.frame("Gain over one constant success rate", ticks, {}, "mnat per held-out answer, right is better")
    for row, (name, (mean, _)) in enumerate(shown.items()):
        y = len(shown) - 0.5 - row
        picture.add(f"<path d='M500,{axes.at_y(y):.4g}h290' stroke='{RULE}'/>")
        axes.spans([mean - error[name]], [mean + error[name]], [y], BLUE)
        axes.dots([mean], [y], BLUE, 9 if name == published else 6)
        picture.text(494, axes.at_y(y) + 4, name, "et" if name == published else "e")
        picture.text(884, axes.at_y(y) + 4, f"{mean:+.1f}", "et" if name == published else "e")
    picture.text(500, 243, "bold: published; lines: 95% interval of the mean over skills")
    return "mnat per answer over a constant rate: " + ", ".join(
        f"{k} {mean:+.1f}" for k, (mean, _) in shown.items()
    )


def item_map(points: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Difficulty against discrimination of the items, those that are calibrated beside the provisional ones."""
    picture = Picture(900, 258, "Map of the items")
    pairs = [point for some in points.values() for point in some]
    # The same scales for both, and none that leave most of the picture empty.
    widest = min(max([1.0, *(abs(b) for b, _ in pairs)]), B_BOUNDS[1])
    highest = min(max([2.0, *(a for _, a in pairs)]), A_BOUNDS[1])
    words = []
    for place, status in enumerate((ItemStatus.CALIBRATED, ItemStatus.PROVISIONAL)):
        some = points.get(str(status), ())
        axes = Axes(picture, 56 + 440 * place, 46, 370, 150, (-widest, widest), (0, highest))
        axes.frame(
            f"{len(some):,} {status} items",
            {b: f"{b:.2g}" for b in (-widest, 0.0, widest)},
            {a: f"{a:.2g}" for a in (0.0, 1.0, highest)},
            "difficulty b, logits",
            "" if place else "discrimination a",
        )
        _draw_cells(axes, some)
        words.append(f"{len(some):,} {status} items")
    picture.text(
        56,
        246,
        "a dot stands for 1, up to 4, up to 15, or more items with about these parameters: the larger, the more",
    )
    return picture.markdown(f"map of the items, difficulty against discrimination: {' and '.join(words)}")


def _draw_cells(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """One dot for all points of a cell, so that the picture's size does not grow with their number."""
    (left, right), (bottom, top) = axes.x, axes.y
    across, up = (right - left) / CELLS[0], (top - bottom) / CELLS[1]
    counts = Counter((round((b - left) / across), round((a - bottom) / up)) for b, a in points)
    least = 0.0
    for most, size in SIZES.items():
        cells = sorted(cell for cell, count in counts.items() if least < count <= most)
        xs, ys = [left + x * across for x, _ in cells], [bottom + y * up for _, y in cells]
        axes.dots(xs, ys, GREEN, size)
        least = most
