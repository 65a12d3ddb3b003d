"""What a night stored about skills and items, as tables to export. Nothing in them is about a student."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, select

from bkt_pipeline.db.nights import latest_night_date
from bkt_pipeline.db.rehearsals import fits_of_night
from bkt_pipeline.db.schema import item_irt_params, skill_fits
from bkt_pipeline.errors import InvalidSettings

# Arrays that only our own nights read: later ones learn the school's prior from the first two, and draw the last.
NOT_EXPORTED = ("moment_mean", "moment_covariance", "held_out_bins")


@dataclass(frozen=True)
class Exported:
    """A table: the type of each column's values, and the rows. A value may also be None."""

    types: dict[str, type]
    rows: list[dict[str, Any]]


def night_tables(connection: Connection, night: dt.date | None = None) -> dict[str, Exported]:
    """The parameters of the skills that the night calibrated, and its items.

    Parameters
    ----------
    connection : Connection
    night : date, optional
        UTC date of the night's as_of; by default the newest night's.

    Returns
    -------
    dict of str to Exported
        "params" has the columns of `skill_fits`, "items" those of `item_irt_params`. `flags` are separated by commas. A
        later night that calibrates an item again replaces its row.

    Raises
    ------
    InvalidSettings
        If there is no such night, or it calibrated no skill.
    """
    night = night or latest_night_date(connection)
    if night is None:
        raise InvalidSettings("there is no night yet; run bkt-pipeline nightly")
    fits = fits_of_night(connection, night)
    if not fits:
        raise InvalidSettings(
            f"no skill was calibrated in the night of {night}; choose another night with --night DATE"
        )
    return {
        "params": _exported(skill_fits, list(fits.values())),
        "items": _exported(item_irt_params, _items_of_night(connection, night)),
    }


def _items_of_night(connection: Connection, night: dt.date) -> list[RowMapping]:
    begin = dt.datetime.combine(night, dt.time(), dt.UTC)
    own = item_irt_params.c
    rows = connection.execute(
        select(item_irt_params)
        .where(own.as_of >= begin, own.as_of < begin + dt.timedelta(days=1))
        .order_by(own.skill_id, own.item_id)
    )
    return list(rows.mappings())


def _exported(table: Table, stored: list[RowMapping]) -> Exported:
    types = {column.name: column.type.python_type for column in table.c if column.name not in NOT_EXPORTED}
    rows = [{name: row[name] for name in types} | {"flags": ", ".join(row["flags"])} for row in stored]
    return Exported(types | {"flags": str}, rows)
