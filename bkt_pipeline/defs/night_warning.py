"""What is wrong with a night as a whole."""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from functools import partial

from sqlalchemy.exc import DBAPIError

from bkt_pipeline.calibration.night_checks import USUAL_NIGHTS, verify_night
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.db.database import Database
from bkt_pipeline.db.ledger import SkillOutcome
from bkt_pipeline.db.nights import attempts_of_earlier_nights
from bkt_pipeline.db.older_answers import older_answers
from bkt_pipeline.db.retry import reason


def night_warning(
    database: Database,
    outcomes: Sequence[SkillOutcome],
    as_of: dt.datetime,
    window_days: int,
    *,
    whole: bool,
) -> str | None:
    """What the night's checks find, and where the answers are if it found none; None if nothing is wrong.

    Of a night that is not `whole`, because skills were chosen, the attempts are not compared with earlier nights.
    """
    # The attempts of a skill are unknown where a newer night has its place in the ledger.
    unknown = any(o.outcome is Outcome.OVERTAKEN and o.attempts is None for o in outcomes)
    earlier: list[int] = []
    if whole and not unknown:
        night = as_of.astimezone(dt.UTC).date()
        earlier = database.run(partial(attempts_of_earlier_nights, night=night, nights=USUAL_NIGHTS))
    counts = Counter(outcome.outcome for outcome in outcomes)
    attempts = sum(outcome.attempts or 0 for outcome in outcomes)
    failed = [finding for finding in verify_night(counts, attempts, earlier) if not finding.passed]
    warnings = [f"{f.name} failed: {f.numbers['what_to_do']}" for f in failed]
    if not attempts and not unknown and (older := _older(database, as_of, window_days)):
        warnings.append(older)
    return "; ".join(warnings) or None


def _older(database: Database, as_of: dt.datetime, window_days: int) -> str | None:
    source = database.platform
    try:
        return database.run(partial(older_answers, source=source, as_of=as_of, window_days=window_days))
    except DBAPIError as error:
        # One skill's rows that cannot be read must not hide the night's outcomes.
        return f"the newest answer could not be found: {reason(error)}"
