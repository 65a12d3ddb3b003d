"""The school's prior after each night: what a skill without parameters of its own is like."""

import datetime as dt

import numpy as np
from sqlalchemy import ARRAY, Column, Connection, Date, Double, Table, func, select

from bkt_pipeline.db.fits import school_prior
from bkt_pipeline.db.rehearsals import own
from bkt_pipeline.db.schema import PARAMETERS, moment, skill_fits
from bkt_pipeline.db.upsert import unless_newer, upsert
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.pooled import pooled

__all__ = ["own", "school_priors", "store_prior"]

_DAY = dt.timedelta(days=1)

school_priors = Table(
    "school_priors",
    own,
    Column("night", Date, primary_key=True, comment="UTC date of as_of"),
    Column("as_of", moment, nullable=False, comment="as_of of the run that learned it"),
    *(
        Column(name, Double, nullable=False, comment=f"{meaning}, at the prior's mode")
        for name, meaning in PARAMETERS.items()
    ),
    Column("mean", ARRAY(Double), nullable=False, comment="Mean of the logits of the parameters, 4 values"),
    Column("covariance", ARRAY(Double), nullable=False, comment="Their covariance, 4 x 4 values by rows"),
    comment="What all skills showed together after each night, for skills that have no parameters of their own",
)


def store_prior(connection: Connection, as_of: dt.datetime) -> None:
    """Learn the school's prior from the latest fit of each skill, the night of `as_of` included, and store it.

    Each run of a night does so after its fits are stored. One run waits for the other, so the last one has them all.
    Nothing is stored while no skill was ever fitted.
    """
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("bkt_pipeline:prior", 0))))
    night = as_of.astimezone(dt.UTC).date()
    fitted = select(skill_fits.c.night).where(
        skill_fits.c.night <= night, skill_fits.c.moment_mean.is_not(None)
    )
    if connection.execute(fitted.limit(1)).first() is None:
        return
    prior = school_prior(connection, night + _DAY)
    row = {
        "night": night,
        "as_of": as_of,
        **dict(zip(PARAMETERS, pooled(_no_answers(as_of), prior).values, strict=True)),
        "mean": prior.mean.tolist(),
        "covariance": prior.covariance.reshape(-1).tolist(),
    }
    upsert(connection, school_priors, [row], keys=["night"], guard=unless_newer)


def _no_answers(as_of: dt.datetime) -> AttemptWindow:
    """A window whose pooled estimate is the prior's mode."""
    return AttemptWindow(
        "", (), np.array([], np.uint8), np.array([], np.int64), np.array([0], np.int64), as_of, window_days=1
    )
