"""The database's clock, which defines what is in the future."""

import datetime as dt

from sqlalchemy import Connection, Date, cast, func, select

from bkt_pipeline.errors import InvalidSettings

# How far two clocks may differ. A later time comes from a wrong clock or date and never replaces a real night.
CLOCK_TOLERANCE = dt.timedelta(minutes=5)

LATEST_MOMENT = func.now() + CLOCK_TOLERANCE
LATEST_NIGHT = cast(func.timezone("UTC", LATEST_MOMENT), Date)


def refuse_future(connection: Connection, as_of: dt.datetime) -> None:
    """Refuse an as_of that is in the future by the database's clock.

    Raises
    ------
    InvalidSettings
        The as_of is more than a few minutes ahead.
    """
    now = connection.execute(select(func.now())).scalar_one().astimezone(dt.UTC)
    refuse_later(as_of, now, "the database's clock")


def refuse_later(as_of: dt.datetime, now: dt.datetime, clock: str) -> None:
    """Refuse an as_of that is in the future by a clock, which says `now`.

    Raises
    ------
    InvalidSettings
        The as_of is more than a few minutes ahead.
    """
    if as_of > now + CLOCK_TOLERANCE:
        raise InvalidSettings(
            f"as_of {as_of.isoformat(timespec='seconds')} is in the future: {clock} says "
            f"{now.isoformat(timespec='seconds')}; choose an as_of that has passed, or correct the clock"
        )
