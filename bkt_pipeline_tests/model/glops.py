"""Real answers beside the project, where they are: see ../shared/data/README.md. Nothing of them is copied here."""

import csv
import gzip
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from bkt_pipeline_tests.model.windows import window

FILE = Path(__file__).resolve().parents[3] / "shared" / "data" / "glops42.csv.gz"

needs_glops = pytest.mark.skipif(not FILE.exists(), reason="needs ../shared/data/glops42.csv.gz")


@cache
def windows():
    """One window a skill, each student's answers in their order."""
    skills = defaultdict(lambda: defaultdict(list))
    with gzip.open(FILE, "rt", newline="") as file:
        for row in csv.DictReader(file):
            skills[row["skill_id"]][row["student_id"]].append((int(row["order"]), int(row["is_correct"])))
    return {
        skill: window(
            [[answer for _, answer in sorted(students[s])] for s in sorted(students)], skill_id=skill
        )
        for skill, students in skills.items()
    }
