"""Real answers: the GLOP problem sets of ASSISTments, from the public repository CAHLR/pyBKT-examples.

They are not part of this project. BKT_GLOPS_FILE names the file, a gzipped CSV with the columns skill_id, student_id, item_id,
is_correct and order; tests that need it skip without it.
"""

import csv
import gzip
import os
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from bkt_pipeline_tests.helpers.windows import window

BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[3] / "shared" / "data" / "glops42.csv.gz"
FILE = Path(os.environ.get("BKT_GLOPS_FILE") or BESIDE_THE_CHECKOUT)

needs_glops = pytest.mark.skipif(not FILE.exists(), reason="the real answers are missing; set BKT_GLOPS_FILE")


@cache
def windows():
    """One window per skill, with each student's answers in order."""
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
