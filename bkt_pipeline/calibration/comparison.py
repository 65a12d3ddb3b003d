"""Which estimator predicts a school best, and which item model, from the held-out scores of its skills."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from bkt_pipeline.calibration.labels import counted
from bkt_pipeline.model.bkt.scores import Scores
from bkt_pipeline.model.irt.comparison import ItemComparison

ESTIMATORS = ("grid", "polished", "pooled")
MNAT = 1000.0  # thousandths of a nat
ITEM_MODELS = {"bkt": "BKT alone", "success_rate": "success rate", "two_pl": "2PL", "offset": "offset"}


@dataclass(frozen=True)
class Comparison:
    """The mean scores of a night's skills, and by how much the best estimator beats the one it is compared with.

    Attributes
    ----------
    means
        By estimator, "default" parameters and "constant" success rate: mean over skills.
    best, other
        The estimator with the highest mean log-likelihood; and the published one, or the second best if the best is
        published.
    gain, error
        By how much `best` beats `other`, in mnat per answer: mean over skills, and its standard error, which is None for
        a single skill.
    skills
        How many skills had enough students to hold some out.
    """

    means: Mapping[str, Scores]
    best: str
    other: str
    gain: float
    error: float | None
    skills: int

    @property
    def sentence(self) -> str:
        """The comparison in one sentence."""
        error = "" if self.error is None else f" (standard error {self.error:.1f})"
        return (
            f"{self.best} predicts held-out answers best: {self.gain:+.1f} mnat per answer{error} against {self.other}, "
            f"mean over {counted(self.skills, 'skill')}"
        )


def compare_estimators(skills: Sequence[Mapping[str, Scores]], published: str) -> Comparison | None:
    """Compare the estimators over the skills that have scores; None if no skill has any."""
    scored = [scores for scores in skills if scores]
    if not scored:
        return None
    means = {name: _mean([scores[name] for scores in scored]) for name in scored[0]}
    ranked = sorted(ESTIMATORS, key=lambda name: -means[name].log_likelihood)
    best = ranked[0]
    other = published if published != best else ranked[1]
    gains = [MNAT * (scores[best].log_likelihood - scores[other].log_likelihood) for scores in scored]
    error = stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else None
    return Comparison(means, best, other, fmean(gains), error, len(gains))


def gains_over(skills: Sequence[Mapping[str, Scores]], other: str) -> dict[str, tuple[float, float]]:
    """By how much each estimator beats `other` on held-out answers, in mnat per answer: mean over skills, standard error.

    The error is NaN for a single skill. Skills without scores are left out.
    """
    scored = [scores for scores in skills if scores]
    found = {}
    for name in scored[0] if scored else ():
        gains = [MNAT * (scores[name].log_likelihood - scores[other].log_likelihood) for scores in scored]
        found[name] = (fmean(gains), stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan)
    return found


def item_sentence(compared: ItemComparison) -> str:
    """Which item model predicts held-out answers best, in one sentence."""
    ranked = sorted(ITEM_MODELS, key=lambda name: -getattr(compared, name))
    others = ", ".join(f"{ITEM_MODELS[name]} {getattr(compared, name):.4f}" for name in ranked[1:])
    return (
        f"of the item models, {ITEM_MODELS[ranked[0]]} predicts held-out answers best: "
        f"{getattr(compared, ranked[0]):.4f} nats per answer, against {others}; mean over {compared.n_answers:,} answers"
    )


def _mean(scores: Sequence[Scores]) -> Scores:
    areas = [score.auc for score in scores if score.auc is not None]
    return Scores(
        fmean(score.log_likelihood for score in scores),
        fmean(areas) if areas else None,
        fmean(score.rmse for score in scores),
    )
