"""Reads the columns of a frame of answers. Every fault is reported with its row and value."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bkt_pipeline.errors import InvalidAttempts, InvalidSettings
from bkt_pipeline.model.observations import Id, checked_answer, checked_id

__all__ = ["FIELDS", "Column", "answers", "chosen_columns", "ids", "moments", "positions"]

Ints = npt.NDArray[np.int64]
REQUIRED = ("student_id", "skill_id", "is_correct")
FIELDS = (*REQUIRED, "created_at", "order")
EPOCH = pd.Timestamp("1970-01-01", tz="UTC")


class Column:
    """One column of the frame, with the name that its error messages use."""

    def __init__(self, field: str, label: Any, values: pd.Series) -> None:
        self.name = field if label == field else f"{field} (column {label!r})"
        self.values = values

    def fault(self, row: int, message: str) -> InvalidAttempts:
        """An error about the value in this row."""
        return InvalidAttempts(f"row {row}, counted from 0: {message}")

    def refuse(self, wrong: npt.NDArray[np.bool_], give: str) -> None:
        """Raise an error with the first of the rows that are wrong, if any."""
        if wrong.any():
            row = int(np.argmax(wrong))
            value = self.values.iloc[row]
            raise self.fault(row, f"{self.name} is {value!s}; {give}")


def chosen_columns(frame: pd.DataFrame, columns: Mapping[str, Any] | None) -> dict[str, Column]:
    """The frame's column for each field; `created_at` and `order` only if there are such columns."""
    if not isinstance(frame, pd.DataFrame):
        raise InvalidAttempts(f"the answers are a {type(frame).__name__}; give a pandas DataFrame")
    mapped = dict(columns or {})
    if unknown := [field for field in mapped if field not in FIELDS]:
        raise InvalidSettings(f"columns maps {unknown[0]!r}; the fields are {', '.join(FIELDS)}")
    found = {}
    for field in FIELDS:
        label = mapped.get(field, field)
        matches = int((frame.columns == label).sum())
        if matches > 1:
            raise InvalidAttempts(f"{matches} columns are called {label!r}; rename or drop all but one")
        if matches:
            found[field] = Column(field, label, frame[label])
        elif field in REQUIRED or field in mapped:
            there = ", ".join(map(str, frame.columns)) or "no column"
            raise InvalidAttempts(
                f"there is no column {label!r} for {field}; the frame has {there} "
                f"(columns={{{field!r}: ...}} maps another name)"
            )
    if not len(frame):
        raise InvalidAttempts("the frame has no rows; give at least one graded answer")
    return found


def ids(column: Column) -> tuple[Ints, list[Id]]:
    """For each row the place of its id among the distinct ones, which are sorted by type and value."""
    missing = column.values.isna().to_numpy()
    column.refuse(missing, "give each row one, or leave the row out")
    codes, values = _each_once(column, _checked_id)
    by_text: dict[str, int] = {}
    for code, value in enumerate(values):
        other = by_text.setdefault(str(value), code)
        if other != code:
            rows = sorted(int(np.argmax(codes == one)) for one in (other, code))
            kinds = " and ".join(type(values[codes[row]]).__name__ for row in rows)
            raise InvalidAttempts(
                f"rows {rows[0]} and {rows[1]}, counted from 0: {column.name} is the same text, but of the types "
                f"{kinds}; give all ids as one type"
            )
    order = sorted(range(len(values)), key=lambda code: (type(values[code]).__name__, values[code]))
    place = np.empty(len(values), np.int64)
    place[order] = np.arange(len(values))
    return place[codes], [values[code] for code in order]


def answers(column: Column) -> npt.NDArray[np.uint8]:
    """1 or 0 for each row."""
    codes, values = _each_once(column, checked_answer)
    return np.array(values, np.uint8)[codes]


def moments(column: Column) -> Ints:
    """Microseconds since the Unix epoch for each row; dates without a time zone are in UTC."""
    give = "give a date and time (ISO 8601 as text, UTC if it has no time zone)"
    values = column.values
    missing = values.isna().to_numpy()
    column.refuse(missing, give)
    kind = pd.api.types.infer_dtype(values)
    if kind not in ("string", "datetime", "datetime64", "date"):
        column.refuse(~missing, f'{give}, or map a column of numbers as "order"')
    times = pd.to_datetime(values, format="ISO8601" if kind == "string" else None, utc=True, errors="coerce")
    if kind == "string":
        # pandas also reads "2026" and "now" as times.
        times = times.where(values.str.match(r"\s*\d{4}-\d\d"))
    column.refuse(times.isna().to_numpy(), give)
    microseconds: Ints = times.dt.as_unit("us").astype("int64").to_numpy()
    return microseconds


def positions(column: Column) -> Ints:
    """The rank of each row's number; equal numbers have the same rank."""
    give = 'give a finite number, or map a column of dates as "created_at"'
    column.refuse(column.values.isna().to_numpy(), give)
    numbers = pd.to_numeric(column.values, errors="coerce")
    column.refuse(~np.isfinite(numbers.to_numpy(np.float64, na_value=np.nan)), give)
    return np.unique(numbers.to_numpy(), return_inverse=True)[1].astype(np.int64)


def _each_once(column: Column, checked: Callable[[str, Any], Any]) -> tuple[Ints, list[Any]]:
    """For each row the place of its value among the distinct ones, and those, checked."""
    try:
        codes, distinct = pd.factorize(column.values, use_na_sentinel=False)
        raw = distinct.tolist()
    except TypeError:
        # A list or another value without a hash, which the check refuses.
        codes, raw = np.arange(len(column.values)), column.values.tolist()
    values = []
    for code, value in enumerate(raw):
        try:
            values.append(checked(column.name, value))
        except InvalidAttempts as error:
            raise column.fault(int(np.argmax(codes == code)), str(error)) from None
    return codes, values


def _checked_id(name: str, value: Any) -> Id:
    if isinstance(value, float):
        raise InvalidAttempts(
            f"{name} is a float, as whole numbers become where one is missing; drop the rows without it and "
            "convert the column with astype('int64')"
        )
    return checked_id(name, value)
