"""Knowledge tracing as mathematics: numpy, scipy and numba; knows neither Dagster nor SQL.

Importing this package loads numpy only; the compiled kernels are loaded when something is first calibrated.
"""

from bkt_pipeline.model.attempts import AttemptObservation, AttemptWindow
from bkt_pipeline.model.bkt.evidence import FLAGS, Evidence, Tier
from bkt_pipeline.model.bkt.fit import SAFE_DEFAULT, SkillFit
from bkt_pipeline.model.bkt.grid import DEFAULT_GRID, Axis, Grid
from bkt_pipeline.model.bkt.likelihood import log_likelihood
from bkt_pipeline.model.bkt.polish import polish
from bkt_pipeline.model.bkt.replay import answers_to_mastery, predict, replay
from bkt_pipeline.model.bkt.search import calibrate, calibrate_all, calibrate_skill, warm_up
from bkt_pipeline.model.bkt.uncertainty import Estimate, Uncertainty
from bkt_pipeline.model.params import BktParams

__all__ = [
    "DEFAULT_GRID",
    "FLAGS",
    "SAFE_DEFAULT",
    "AttemptObservation",
    "AttemptWindow",
    "Axis",
    "BktParams",
    "Estimate",
    "Evidence",
    "Grid",
    "SkillFit",
    "Tier",
    "Uncertainty",
    "answers_to_mastery",
    "calibrate",
    "calibrate_all",
    "calibrate_skill",
    "log_likelihood",
    "polish",
    "predict",
    "replay",
    "warm_up",
]
