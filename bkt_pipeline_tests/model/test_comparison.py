"""The comparison of item models: against the definition, on simulated truths, and on real answers."""

import csv
import gzip
from collections import defaultdict

import numpy as np
import pytest

from bkt_pipeline.errors import InvalidAttempts
from bkt_pipeline.model import BktParams, predict, replay
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.pooled import pooled
from bkt_pipeline.model.bkt.prediction import are_held_out, hold_out
from bkt_pipeline.model.bkt.search import search
from bkt_pipeline.model.irt.answers import SkillAnswers
from bkt_pipeline.model.irt.comparison import (
    compare_items,
    compare_skills,
    params_without_held_out,
    pool_comparisons,
)
from bkt_pipeline.model.irt.curve import ability, probability
from bkt_pipeline.model.irt.items import calibrate_items, theta_by_replay
from bkt_pipeline.model.irt.prior import learn_item_prior
from bkt_pipeline_tests.helpers import glops
from bkt_pipeline_tests.helpers.windows import window

PARAMS = BktParams(0.5, 0.1, 0.15, 0.2)


def skill(d, n_students=1000, length=8, a=None, seed=1):
    """Answers to items with offsets d (and slopes a, if given) of students who otherwise follow BKT."""
    rng = np.random.default_rng(seed)
    d, a = np.asarray(d, float), np.ones(len(d)) if a is None else np.asarray(a, float)
    items = rng.integers(0, d.size, (n_students, length))
    known = np.full(n_students, PARAMS.p_l0)
    responses = np.zeros((n_students, length), np.uint8)
    for t in range(length):
        eta, item = ability(predict(known, PARAMS)), items[:, t]
        responses[:, t] = rng.random(n_students) < probability(eta, a[item], -d[item])
        _, after = replay(responses[:, : t + 1].ravel(), np.arange(n_students + 1) * (t + 1), PARAMS)
        known = after[t :: t + 1]
    return SkillAnswers(
        "s",
        tuple(f"i{number}" for number in range(d.size)),
        items.ravel(),
        responses.ravel(),
        np.arange(n_students + 1) * length,
        held_out=are_held_out([f"student {number}" for number in range(n_students)]),
    )


def test_each_number_is_the_mean_log_probability_of_the_held_out_answers():
    given = skill([0.0, 1.0, -1.0])
    found = compare_items(given, PARAMS)
    fitted, held = given.of_students(~given.held_out), given.of_students(given.held_out)
    items = calibrate_items(fitted, theta_by_replay(fitted, PARAMS))
    eta, right = theta_by_replay(held, PARAMS), held.responses == 1
    rate = np.array(
        [
            (fitted.responses[fitted.items == i].sum() + 0.5) / ((fitted.items == i).sum() + 1)
            for i in range(3)
        ]
    )
    a, b = items.fits.irt_a[held.items], items.fits.irt_b[held.items]
    expected = {
        "bkt": 1 / (1 + np.exp(-eta)),
        "success_rate": rate[held.items],
        "two_pl": 1 / (1 + np.exp(-a * (eta - b))),
        "offset": 1 / (1 + np.exp(-(eta + items.offsets.d[held.items]))),
    }
    assert found.n_answers == held.n_answers
    for name, p in expected.items():
        assert getattr(found, name) == pytest.approx(np.log(np.where(right, p, 1 - p)).mean()), name


def test_where_items_differ_in_difficulty_the_offset_wins_and_where_they_do_not_it_costs_next_to_nothing():
    differ = compare_items(skill(np.linspace(-1.5, 1.5, 12)), PARAMS)
    assert min(differ.offset, differ.two_pl) > differ.bkt + 0.05
    assert differ.offset > differ.success_rate
    equal = compare_items(skill(np.zeros(12)), PARAMS)
    assert equal.offset > equal.bkt - 0.003
    assert equal.two_pl > equal.bkt - 0.003


def test_where_items_differ_in_slope_the_2pl_wins():
    found = compare_items(skill(np.zeros(6), n_students=5000, a=[0.4, 0.4, 0.4, 2.5, 2.5, 2.5]), PARAMS)
    assert found.two_pl > found.offset + 0.005


def test_an_item_without_parameters_is_predicted_by_bkt_alone():
    given = skill([1.0, 1.0])
    found = compare_items(given, PARAMS, min_answers=10**6)
    assert found.two_pl == pytest.approx(found.bkt)


def test_permuted_students_change_nothing():
    given = skill([0.5, -0.5], n_students=200)
    order = np.random.default_rng(2).permutation(200)
    answers = (order[:, None] * 8 + np.arange(8)).ravel()
    other = SkillAnswers(
        "s", given.item_ids, given.items[answers], given.responses[answers], given.offsets, held_out=given.held_out[order]
    )  # fmt: skip
    one, two = compare_items(given, PARAMS), compare_items(other, PARAMS)
    for name in ("bkt", "success_rate", "two_pl", "offset"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), abs=1e-9)


def test_without_answers_on_both_sides_there_is_nothing_to_compare():
    given = skill([0.0], n_students=4)
    nobody = np.zeros(4, np.bool_)
    for held_out in (nobody, ~nobody):
        same = SkillAnswers(
            "s", given.item_ids, given.items, given.responses, given.offsets, held_out=held_out
        )
        assert compare_items(same, PARAMS) is None
    others = [skill([0.5, -0.5], seed=2), same, skill([1.0], seed=3)]
    alone = [compare_items(other, params_without_held_out(other)) for other in (others[0], others[2])]
    assert compare_skills(others) == [alone[0], None, alone[1]]
    assert pool_comparisons([]) is None
    with pytest.raises(InvalidAttempts, match="without held_out"):
        compare_items(SkillAnswers("s", given.item_ids, given.items, given.responses, given.offsets), PARAMS)


def test_the_skill_is_fitted_anew_without_the_held_out_students():
    given = skill([0.5, -0.5], n_students=300)
    found = params_without_held_out(given)
    by_student = given.responses.reshape(300, 8)
    assert found == pooled(window(by_student[~given.held_out].tolist()))
    flipped = np.where(given.held_out[:, None], 1 - by_student, by_student).astype(np.uint8).ravel()
    other = SkillAnswers("s", given.item_ids, given.items, flipped, given.offsets, held_out=given.held_out)
    assert params_without_held_out(other) == found
    with pytest.raises(InvalidAttempts, match="without held_out"):
        params_without_held_out(SkillAnswers("s", given.item_ids, given.items, flipped, given.offsets))


def test_an_answer_that_the_parameters_rule_out_leaves_a_number():
    given = SkillAnswers(
        "s", ("i",), np.zeros(4, int), np.array([1, 1, 1, 0], np.uint8), np.array([0, 2, 4]), held_out=np.array([False, True])
    )  # fmt: skip
    assert np.isfinite(compare_items(given, BktParams(1.0, 0.0, 0.0, 0.0)).bkt)


@glops.needs_glops
def test_on_real_answers_both_item_models_predict_no_worse_than_bkt_alone_and_than_the_success_rate():
    skills = defaultdict(lambda: defaultdict(list))
    with gzip.open(glops.FILE, "rt", newline="") as file:
        for row in csv.DictReader(file):
            answer = (int(row["order"]), row["item_id"], int(row["is_correct"]))
            skills[row["skill_id"]][row["student_id"]].append(answer)
    given, params = [], []
    for name, students in skills.items():
        sequences = [sorted(students[student]) for student in sorted(students)]
        whole = window([[right for *_, right in sequence] for sequence in sequences], name, sorted(students))
        names, items = np.unique(
            [item for sequence in sequences for _, item, _ in sequence], return_inverse=True
        )
        given.append(
            SkillAnswers(name, (*names,), items, whole.responses, whole.offsets, held_out=are_held_out(whole.student_ids))
        )  # fmt: skip
        past = hold_out(whole)[0]
        params.append(search(past.responses, past.offsets, DistinctSequences.of(past))[0])
    fitted = [skill.of_students(~skill.held_out) for skill in given]
    moments = [
        calibrate_items(skill, theta_by_replay(skill, of)).moments
        for skill, of in zip(fitted, params, strict=True)
    ]
    prior = learn_item_prior(moments)
    found = pool_comparisons(
        compare_items(skill, of, prior=prior) for skill, of in zip(given, params, strict=True)
    )
    assert found.n_answers > 13_000
    assert min(found.two_pl, found.offset) > max(found.bkt, found.success_rate) + 0.003
