"""The page of one skill: its learning curve, its parameters over the last nights, its estimators on held-out answers."""

import datetime as dt
import math

import dagster as dg
import numpy as np

from bkt_pipeline.calibration.baseline import History
from bkt_pipeline.calibration.labels import in_markdown, shortened
from bkt_pipeline.calibration.skills import SkillVerdict
from bkt_pipeline.db.schema import COMPARED, PARAMETERS
from bkt_pipeline.defs.metadata.svg import BLUE, GREEN, GREY, ORANGE, RULE, Axes, Picture
from bkt_pipeline.model.bkt.curves import learning_curve
from bkt_pipeline.model.bkt.fit import SkillFit

LEAST_STUDENTS = (
    5  # an opportunity that fewer students reached is not drawn: it would be noise, and show their answers
)
MOST_OPPORTUNITIES = 15
LONGEST_LABEL = 48
SHARES = {0.0: "0", 0.5: "50%", 1.0: "100%"}
CAPTION = (
    "Shaded: left, Wilson's 95% interval of the observed share (an opportunity of fewer than 5 students is left out); "
    "middle, 95% interval of the posterior."
)


def skill_page(
    verdict: SkillVerdict, history: History | None, label: str, as_of: dt.datetime
) -> dict[str, dg.MetadataValue]:
    """The page as metadata; empty for a skill without answers, parameters and earlier nights."""
    history, night = history or History(), as_of.astimezone(dt.UTC).date()
    window, fit = verdict.window, verdict.fit
    if fit is None and not history.nights and (window is None or not window.n_attempts):
        return {}
    called = shortened(label, LONGEST_LABEL)
    picture = Picture(900, 258, called)
    picture.text(16, 24, called, "th")
    words = [
        f"learning curve, parameters and held-out scores of {in_markdown(label)}",
        _curve(picture, verdict),
        _parameters(picture, fit, history, night),
        _held_out(picture, fit),
    ]
    state = f"{verdict.outcome} in the night of {night}"
    if window is not None:
        state += f", {window.n_attempts:,} answers of {window.n_students:,} students"
    picture.text(884, 24, state + (f", tier {fit.evidence.tier}" if fit else ""), "e")
    picture.text(16, 249, CAPTION)
    return {"page": dg.MetadataValue.md(picture.markdown("; ".join(filter(None, words))))}


def _curve(picture: Picture, verdict: SkillVerdict) -> str:
    axes = Axes(picture, 56, 62, 190, 128, (1, 2), (0, 1))
    window, params = verdict.window, verdict.fit.published if verdict.fit else None
    curve = learning_curve(window, params) if window is not None else None
    n = min(MOST_OPPORTUNITIES, int((curve.students >= LEAST_STUDENTS).sum())) if curve else 0
    if curve is None or not n:
        axes.frame("Right answers by opportunity", {}, SHARES)
        picture.text(axes.left + 95, 130, "fewer than 5 students", "m")
        return "no learning curve: fewer than 5 students"
    axes = Axes(picture, 56, 62, 190, 128, (1, max(n, 2)), (0, 1))
    steps = sorted({1, (1 + n) // 2, n})
    axes.frame("Right answers by opportunity", {step: str(step) for step in steps}, SHARES, "opportunity")
    xs = list(range(1, n + 1))
    observed, predicted = curve.observed[:n].tolist(), curve.predicted[:n].tolist()
    axes.band(xs, curve.low[:n].tolist(), curve.high[:n].tolist(), BLUE)
    axes.line(xs, observed, BLUE)
    axes.dots(xs, observed, BLUE)
    axes.line(xs, predicted, ORANGE, dashed=True)
    picture.text(112, 232, "observed", "e")
    picture.text(206, 232, "predicted", "e")
    picture.add(f"<path d='M116,228h22' stroke='{BLUE}'/>")
    picture.add(f"<path d='M210,228h22' stroke='{ORANGE}' stroke-dasharray='5 3'/>")
    ends = f"at the first opportunity {_share(observed[0])} of the answers are right"
    ends += f", at number {n} {_share(observed[-1])}" if n > 1 else ""
    if params is None:
        return ends
    return ends + f"; predicted {_share(predicted[0])}" + (f" and {_share(predicted[-1])}" if n > 1 else "")


def _parameters(picture: Picture, fit: SkillFit | None, history: History, night: dt.date) -> str:
    nights, estimates = list(history.nights[::-1]), history.estimates[::-1].astype(np.float64)
    if fit is not None:
        nights, estimates = [*nights, night], np.concatenate([estimates, _tonight(fit)[None]])
    days = [float(date.toordinal()) for date in nights]
    shown = (days[0], days[-1]) if len(days) > 1 else (days[0] - 1, days[0] + 1) if days else (0.0, 1.0)
    ticks = {float(date.toordinal()): f"{date.day} {date:%b}" for date in (*nights[:1], *nights[-1:])}
    words = []
    for place, name in enumerate(PARAMETERS):
        most = 1.0 if place < 2 else 0.5
        left, top = 306 + 184 * (place % 2), 62 + 78 * (place // 2)
        axes = Axes(picture, left, top, 130, 50, shown, (0, most))
        axes.frame(name, ticks if place > 1 else {}, {0.0: "0", most: f"{most:g}"})
        values, lows, highs = estimates[:, place].T.tolist()
        axes.band(days, lows, highs, GREEN)
        axes.line(days, values, GREEN)
        axes.whiskers(days[-1:], lows[-1:], highs[-1:], GREEN)
        axes.dots(days[-1:], values[-1:], GREEN)
        if days:
            latest = f"{values[-1]:.3g}"
            if math.isfinite(lows[-1]):
                latest += f" ({lows[-1]:.2f}–{highs[-1]:.2f})"
            picture.text(left + 156, top - 9, latest, "e")
            words.append(f"{name} {latest}")
    counted = {0: "never calibrated", 1: "one night with answers"}
    picture.text(463, 218, counted.get(len(days), f"last {len(days)} nights with answers"), "m")
    return ", ".join(words)


def _tonight(fit: SkillFit) -> np.ndarray:
    sure = fit.uncertainty
    ends = [
        (getattr(sure, name).low, getattr(sure, name).high) if sure else (math.nan,) * 2
        for name in PARAMETERS
    ]
    return np.array([(value, *end) for value, end in zip(fit.published.values, ends, strict=True)])


def _held_out(picture: Picture, fit: SkillFit | None) -> str:
    title = "Held-out score by estimator"
    if fit is None or fit.held_out is None:
        picture.text(668, 53, title, "t")
        picture.text(
            668, 130, "not calibrated tonight" if fit is None else "too few students to hold some out"
        )
        return ""
    found = fit.held_out
    scores = {name: found.scores[name].log_likelihood for name in COMPARED}
    low, high = min(scores.values()), max(scores.values())
    margin = max(0.1 * (high - low), 1e-4)
    axes = Axes(picture, 734, 62, 100, 128, (low - margin, high + margin), (0, len(COMPARED)))
    picture.text(668, 53, title, "t")
    for row, (name, value) in enumerate(scores.items()):
        y = len(COMPARED) - 0.5 - row
        published = name == fit.estimator
        picture.text(728, axes.at_y(y) + 4, name, "et" if published else "e")
        picture.add(f"<path d='M734,{axes.at_y(y):.4g}h100' stroke='{RULE}'/>")
        axes.dots([value], [y], BLUE if published else GREY, 9 if published else 6)
        picture.text(884, axes.at_y(y) + 4, f"{value:.4f}", "et" if published else "e")
    picture.text(884, 204, "nats per answer; bold: published", "e")
    picture.text(884, 218, f"{found.attempts:,} answers of {found.students:,} students", "e")
    best = max(scores, key=lambda name: scores[name])
    return f"{best} predicts the held-out answers best, {scores[best]:.4f} nats per answer"


def _share(value: float) -> str:
    return f"{value:.0%}"
