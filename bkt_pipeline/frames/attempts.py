"""Turns a frame of answers into one window per skill, as the model takes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bkt_pipeline.frames.columns import EPOCH, answers, chosen_columns, ids, moments, positions
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.observations import Id

__all__ = ["Answers", "read_answers", "windows"]

Ints = npt.NDArray[np.int64]
DAY = 86_400_000_000


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Answers:
    """The answers of a frame.

    Attributes
    ----------
    skills
        By the text of its id, each skill's id as the frame has it.
    windows
        By the same text, the skill's answers.
    rows
        By the same text, the frame's row of each response in the window.
    student
        For each row of the frame, the place of its student in `student_ids`.
    student_ids
        The students' ids as text.
    """

    skills: dict[str, Id]
    windows: dict[str, AttemptWindow]
    rows: dict[str, Ints]
    student: Ints
    student_ids: list[str]

    @property
    def n_rows(self) -> int:
        """Rows of the frame."""
        return int(self.student.size)


def windows(df: pd.DataFrame, *, columns: Mapping[str, Any] | None = None) -> dict[str, AttemptWindow]:
    """The answers of a frame as the functions in `bkt_pipeline.model` take them, one window per skill.

    Each student's answers to a skill are one sequence, sorted by `created_at`, then by `order`, then by row. All rows
    are used, whatever their age: a window begins with the frame's oldest answer and ends with its newest.

    Parameters
    ----------
    df : DataFrame
        One row for each graded answer, with the columns

        - `student_id`, `skill_id`: text, integers or UUIDs.
        - `is_correct`: 1, 0, True or False, as any kind of number.
        - `created_at`, optional: dates and times, or their text in ISO 8601; UTC if they have no time zone.
        - `order`, optional: numbers that rise with time. Without either, answers are in the order of the rows.

        Other columns are ignored.
    columns : mapping, optional
        The frame's column for a field that is called otherwise, as in ``{"student_id": "user_id"}``.

    Returns
    -------
    dict of str to AttemptWindow
        By the text of the skill's id. Without `created_at`, the times in a window only give the order.

    Raises
    ------
    InvalidAttempts
        If a column is missing, or a value is missing or is not one of the above. The message has the row, counted
        from 0 in the frame's order (as ``df.iloc`` takes it), and the value.
    InvalidSettings
        If `columns` maps something else than these fields.

    Examples
    --------
    >>> df = pd.DataFrame({"student_id": ["a", "b", "a"], "skill_id": 7, "is_correct": [True, 1, 0.0], "order": [2, 1, 1]})
    >>> found = windows(df)["7"]
    >>> found.student_ids, found.responses, found.offsets
    (('a', 'b'), array([0, 1, 1], dtype=uint8), array([0, 2, 3]))
    """
    return read_answers(df, columns).windows


def read_answers(df: pd.DataFrame, columns: Mapping[str, Any] | None = None) -> Answers:
    """The windows of a frame, and the rows that they came from."""
    found = chosen_columns(df, columns)
    student, students = ids(found["student_id"])
    skill, skills = ids(found["skill_id"])
    right = answers(found["is_correct"])
    row = np.arange(len(df))
    order = positions(found["order"]) if "order" in found else row
    time = moments(found["created_at"]) if "created_at" in found else order
    student_ids = [str(one) for one in students]
    as_of = EPOCH.to_pydatetime() + timedelta(microseconds=int(time.max()))
    days = int(time.max() - time.min()) // DAY + 1
    by_skill = np.lexsort((order, time, student, skill))
    ends = np.cumsum(np.bincount(skill))
    of_skill: dict[str, AttemptWindow] = {}
    rows: dict[str, Ints] = {}
    for one, start, end in zip(skills, [0, *ends[:-1]], ends, strict=True):
        key = str(one)
        rows[key] = by_skill[start:end]
        who = student[rows[key]]
        begins = np.flatnonzero(np.diff(who, prepend=-1))
        of_skill[key] = AttemptWindow(
            skill_id=key,
            student_ids=tuple(student_ids[place] for place in who[begins]),
            responses=right[rows[key]],
            answered_at=time[rows[key]],
            offsets=np.append(begins, who.size),
            as_of=as_of,
            window_days=days,
        )
    return Answers({str(one): one for one in skills}, of_skill, rows, student, student_ids)
