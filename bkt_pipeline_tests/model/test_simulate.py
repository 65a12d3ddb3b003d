"""Synthetic learners: reproducible to the byte, and true to the model."""

import hashlib

import numpy as np
import pytest

from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.model import BktParams
from bkt_pipeline.model.simulate import school, simulate

SCHOOL = school()
SKILL_OF = dict(SCHOOL.items)
SKILL = np.array([SKILL_OF[item] for item in SCHOOL.item_id])


def attempts(skill):
    return int((skill.id == SKILL).sum())


def test_same_seed_same_bytes_on_every_platform():
    digest = hashlib.sha256()
    for column in (SCHOOL.student_id, SCHOOL.item_id, SCHOOL.is_correct, SCHOOL.age_us):
        digest.update("\n".join(map(str, column.tolist())).encode())
    assert digest.hexdigest() == "37c12a3567a7734e8a9c3e85b7cea9cbd1ef2c924977d5c3159f23591023795d"
    assert school(1).n_attempts != SCHOOL.n_attempts


def test_the_school_has_what_a_demo_needs():
    active = [skill for skill in SCHOOL.skills if skill.active]
    assert (len(SCHOOL.skills), len(active)) == (65, 64)
    assert len({skill.id for skill in SCHOOL.skills}) == 65
    assert SCHOOL.n_attempts > 100_000
    assert 4 <= sum(attempts(skill) < 50 for skill in active) <= 8
    assert all(attempts(skill) > 0 for skill in SCHOOL.skills)
    ungraded = {SKILL_OF[item] for item in SCHOOL.item_id[SCHOOL.is_correct == -1]}
    assert len(ungraded) == 1
    per_skill = np.unique([skill for _, skill in SCHOOL.items], return_counts=True)[1]
    assert (per_skill.min(), per_skill.max()) == (8, 20)


def test_ages_lie_within_the_window_the_oldest_first():
    assert SCHOOL.age_us.min() > 0
    assert SCHOOL.age_us.max() < 29 * 86_400_000_000
    assert (np.diff(SCHOOL.age_us) <= 0).all()


def test_some_answers_of_a_student_bear_the_same_time():
    key = np.char.add(np.char.add(SCHOOL.student_id, SKILL), SCHOOL.age_us.astype(str))
    assert np.unique(key, return_counts=True)[1].max() > 3


def test_equal_times_keep_the_order_of_the_answers():
    # Two skills are handed in at once. Were their order lost, students would seem not to learn.
    key = np.char.add(np.char.add(SCHOOL.student_id, SKILL), SCHOOL.age_us.astype(str))
    _, first, count = np.unique(key, return_index=True, return_counts=True)
    last = len(key) - 1 - np.unique(key[::-1], return_index=True)[1]
    assert SCHOOL.is_correct[last[count > 3]].mean() > SCHOOL.is_correct[first[count > 3]].mean() + 0.1


def test_the_truth_comes_back():
    truth = BktParams(0.3, 0.1, 0.15, 0.2)
    view = simulate(truth, n_students=200_000, seed=1, lengths=2)
    first, second = view.responses[::2], view.responses[1::2]
    known = truth.p_l0 + (1 - truth.p_l0) * truth.p_transit
    assert first.mean() == pytest.approx(0.3 * 0.85 + 0.7 * 0.2, abs=0.005)
    assert second.mean() == pytest.approx(known * 0.85 + (1 - known) * 0.2, abs=0.005)
    both = 0.3 * 0.85**2 + 0.7 * 0.2 * (0.1 * 0.85 + 0.9 * 0.2)
    assert (first & second).mean() == pytest.approx(both, abs=0.005)


def test_lengths_are_as_given():
    view = simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=3, seed=1, lengths=np.array([4, 1, 7]))
    assert np.diff(view.offsets).tolist() == [4, 1, 7]
    with pytest.raises(InvalidSettings, match="at least 1 attempt"):
        simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=3, seed=1, lengths=0)


def test_drawn_lengths_have_a_tail():
    lengths = np.diff(simulate(BktParams(0.3, 0.1, 0.1, 0.2), n_students=20_000, seed=1).offsets)
    assert lengths.min() == 1
    assert 5 <= np.median(lengths) <= 8
    assert 50 <= lengths.max() <= 60
