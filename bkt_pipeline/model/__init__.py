"""The mathematics of knowledge tracing, with numpy and numba. It does not depend on Dagster or SQL.

Importing this package loads only numpy; the compiled kernels are loaded at the first calibration.
"""

from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.calibrate import calibrate, calibrate_all, warm_up
from bkt_pipeline.model.bkt.evidence import FLAGS, Evidence, Tier, on_edge
from bkt_pipeline.model.bkt.fit import SkillFit
from bkt_pipeline.model.bkt.grid import DEFAULT_GRID, Axis, Grid
from bkt_pipeline.model.bkt.likelihood import log_likelihood
from bkt_pipeline.model.bkt.polish import polish
from bkt_pipeline.model.bkt.pooled import learn_prior, moments, pooled
from bkt_pipeline.model.bkt.prior import SHIPPED_PRIOR, Moments, SchoolPrior, prior_from_moments
from bkt_pipeline.model.bkt.replay import answers_to_mastery, predict, replay
from bkt_pipeline.model.bkt.scores import HeldOut, Scores, held_out_scores
from bkt_pipeline.model.bkt.search import calibrate_skill
from bkt_pipeline.model.bkt.uncertainty import Estimate, Uncertainty
from bkt_pipeline.model.bkt.update import update
from bkt_pipeline.model.observations import AttemptObservation
from bkt_pipeline.model.params import SAFE_DEFAULT, BktParams

__all__ = [
    "DEFAULT_GRID",
    "FLAGS",
    "SAFE_DEFAULT",
    "SHIPPED_PRIOR",
    "AttemptObservation",
    "AttemptWindow",
    "Axis",
    "BktParams",
    "Estimate",
    "Evidence",
    "Grid",
    "HeldOut",
    "Moments",
    "SchoolPrior",
    "Scores",
    "SkillFit",
    "Tier",
    "Uncertainty",
    "answers_to_mastery",
    "calibrate",
    "calibrate_all",
    "calibrate_skill",
    "held_out_scores",
    "learn_prior",
    "log_likelihood",
    "moments",
    "on_edge",
    "polish",
    "pooled",
    "predict",
    "prior_from_moments",
    "replay",
    "update",
    "warm_up",
]
