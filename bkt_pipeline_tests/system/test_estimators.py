"""What nights with each estimator store and publish, and what a thin fit may replace."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dagster as dg
import numpy as np
import psycopg
import pytest

from bkt_pipeline.db.database import open_database
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.night import NightRun, run_night
from bkt_pipeline.model import SHIPPED_PRIOR, AttemptWindow, BktParams, calibrate
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests.conftest import AS_OF, Platform
from bkt_pipeline_tests.helpers.schools import (
    enrol,
    insert,
    latest,
    outcomes,
    stored,
    summary,
)

NAMES = ("p_l0", "p_transit", "p_slip", "p_guess")
COMPARED = {"grid", "polished", "pooled", "default", "constant"}
DAY = dt.timedelta(days=1)
Night = Callable[..., NightRun]


@pytest.fixture
def nights(platform: Platform, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Night:
    """A night without items and with these settings."""
    monkeypatch.setenv("DATABASE_URL", platform.url)

    def run(as_of: dt.datetime = AS_OF, **settings: Any) -> NightRun:
        with open_database() as database:
            return run_night(
                database, build_definitions(), instance, as_of, with_items=False, settings=settings
            )

    return run


def fits(platform: Platform, as_of: dt.datetime = AS_OF) -> dict[str, dict[str, Any]]:
    with psycopg.connect(platform.url) as connection:
        rows = connection.execute(
            "SELECT skill_id, to_jsonb(f) FROM bkt_pipeline.skill_fits f WHERE night = %s", [as_of.date()]
        ).fetchall()
    return dict(rows)


def parameters(fit: dict[str, Any], prefix: str = "") -> tuple[float, ...]:
    return tuple(fit[f"{prefix}{name}"] for name in NAMES)


@pytest.mark.parametrize("estimator", ["grid", "polished", "pooled"])
def test_every_night_stores_all_estimates_and_publishes_the_chosen_one(
    platform: Platform, nights: Night, instance: dg.DagsterInstance, estimator: str
) -> None:
    windows = enrol(platform, [60, 90])
    run = nights(estimator=estimator)
    found = fits(platform)
    assert set(found) == set(windows)
    for key, window in windows.items():
        fit, expected = found[key], calibrate(window, polished=True)
        assert parameters(fit, "grid_") == expected.params.values
        assert expected.polished is not None
        assert parameters(fit, "polished_") == pytest.approx(expected.polished.values, abs=1e-6)
        assert expected.pooled is not None
        assert parameters(fit, "pooled_") == pytest.approx(expected.pooled.values, abs=1e-6)
        assert fit["estimator"] == estimator
        assert parameters(fit) == parameters(fit, f"{estimator}_")
        assert stored(platform)[key][:4] == parameters(fit)
        assert fit["held_out_students"] > 0
        for name in COMPARED:
            assert fit[f"held_out_{name}_log_likelihood"] < 0.0
            assert 0.0 < fit[f"held_out_{name}_rmse"] < 1.0
        shown = {name: value.value for name, value in latest(instance, key).metadata.items()}
        for name in NAMES:
            assert shown[f"{name}_low"] <= shown[name] <= shown[f"{name}_high"], (estimator, name)
        assert 0 <= shown["parameters_on_grid_edge"] <= 4
        assert shown["estimator"] == estimator
    shown = summary(instance)
    assert shown["best_estimator"].value == run.comparison
    assert run.comparison is not None
    assert "predicts held-out answers best" in run.comparison
    assert "mean over 2 skills" in run.comparison
    assert {record.data["estimator"] for record in shown["estimators"].records} == COMPARED


def test_no_fit_costs_another_its_row(platform: Platform, nights: Night) -> None:
    first, bad, third = enrol(platform, [60, 60, 60])
    assert nights(AS_OF - DAY).any_failed is False
    refuse_fit = (
        "ALTER TABLE bkt_pipeline.skill_fits ADD CONSTRAINT refused CHECK (skill_id <> '{}') NOT VALID"
    )
    with psycopg.connect(platform.url) as connection:
        connection.execute(refuse_fit.format(bad))
    assert outcomes(nights(estimator="pooled")) == {first: "calibrated", bad: "failed", third: "calibrated"}
    assert set(fits(platform)) == {first, third}


def part(window: AttemptWindow, students: int) -> AttemptWindow:
    """The first students of the window."""
    end = int(window.offsets[students])
    return replace(
        window,
        student_ids=window.student_ids[:students],
        responses=window.responses[:end],
        answered_at=window.answered_at[:end],
        offsets=window.offsets[: students + 1],
    )


def moved(window: AttemptWindow, days: int) -> AttemptWindow:
    return replace(
        window, answered_at=window.answered_at + days * 86_400_000_000, as_of=window.as_of + days * DAY
    )


def published_attempts(platform: Platform) -> dict[str, int]:
    with psycopg.connect(platform.url) as connection:
        rows = connection.execute("SELECT skill_id, attempts FROM bkt_pipeline.published_params").fetchall()
    return dict(rows)


def test_a_thin_fit_never_replaces_a_full_one(platform: Platform, nights: Night) -> None:
    """A skill without answers grows, pauses and comes back, over nights with every skill calibrated."""
    skill = platform.id(1)
    key = str(skill)
    whole = simulate(BktParams(0.3, 0.15, 0.1, 0.2), n_students=30, seed=3, lengths=6, skill_id=key)

    def night(day: int) -> str:
        run = nights(AS_OF + day * DAY, estimator="pooled", min_attempts=0)
        assert run.failed_runs == {}
        return outcomes(run)[key]

    def answer(window: AttemptWindow) -> None:
        with psycopg.connect(platform.url) as connection:
            insert(connection, platform, skill, window)

    with psycopg.connect(platform.url) as connection:
        connection.execute("INSERT INTO skills (id, active) VALUES (%s, true)", [skill])
        connection.execute("INSERT INTO items VALUES (%s, %s)", [skill, skill])
    assert night(-40) == "calibrated"
    mode = tuple(1.0 / (1.0 + np.exp(-np.array(SHIPPED_PRIOR.mean))))
    assert stored(platform)[key][:4] == pytest.approx(mode, abs=1e-6), "the prior's mode"
    assert published_attempts(platform) == {key: 0}

    answer(part(whole, 4))
    assert night(0) == "calibrated"
    assert published_attempts(platform) == {key: 24}
    thin = stored(platform)[key]
    assert thin[:4] != pytest.approx(mode, abs=1e-6)

    answer(moved(whole, 1))
    assert night(1) == "calibrated"
    full = stored(platform)[key]
    assert published_attempts(platform) == {key: 204}
    assert full != thin

    # All answers have left the window, then a few come.
    assert night(60) == "skipped"
    assert stored(platform)[key] == full
    answer(moved(part(whole, 3), 70))
    assert night(70) == "skipped"
    assert stored(platform)[key] == full
    assert published_attempts(platform) == {key: 204}

    answer(moved(whole, 80))
    assert night(80) == "calibrated"
    assert stored(platform)[key] != full


def test_a_row_that_the_platform_seeded_is_not_replaced_by_a_thin_fit(
    platform: Platform, nights: Night
) -> None:
    thin, full = enrol(platform, [4, 30])
    nights(AS_OF - DAY, estimator="pooled")
    seeded = (0.4, 0.1, 0.1, 0.2)
    with psycopg.connect(platform.url) as connection:
        connection.execute("DELETE FROM skill_bkt_params")
        connection.execute("DELETE FROM bkt_pipeline.published_params")
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO skill_bkt_params (skill_id, p_l0, p_transit, p_slip, p_guess, calibrated_at)"
                " VALUES (%s, %s, %s, %s, %s, now())",
                [(key, *seeded) for key in (thin, full)],
            )
    assert outcomes(nights(estimator="pooled", min_attempts=0)) == {thin: "skipped", full: "calibrated"}
    rows = stored(platform)
    assert rows[thin][:4] == seeded
    assert rows[full][:4] != seeded


def test_a_thin_fit_does_not_replace_a_full_one_that_was_rolled_back_to(
    platform: Platform, nights: Night
) -> None:
    from bkt_pipeline.cli.main import main

    (key,) = enrol(platform, [30])
    nights(estimator="pooled")
    with psycopg.connect(platform.url) as connection:
        connection.execute(
            "UPDATE bkt_pipeline.published_params SET attempts = 10, as_of = as_of + interval '1 day'"
        )
    assert main(["rollback", "--night", AS_OF.date().isoformat()]) == 0
    assert published_attempts(platform) == {key: 180}


TRUTH = BktParams(0.3, 0.1, 0.1, 0.2)


def half_began_earlier(platform: Platform, students: int) -> tuple[str, dict[str, int]]:
    """A skill with so many students of 8 answers; half of them gave the first 4 before the window.

    Returns the skill and its number of graded answers, in the window and of all.
    """
    skill = platform.id(1)
    window = simulate(TRUTH, n_students=students, seed=7, lengths=8, skill_id=str(skill))
    at = window.answered_at.reshape(students, 8).copy()
    at[: students // 2, :4] -= 40 * 86_400_000_000
    earlier = replace(window, answered_at=at.reshape(-1), sequences="from_first_answer")
    with psycopg.connect(platform.url) as connection:
        connection.execute("INSERT INTO skills (id, active) VALUES (%s, true)", [skill])
        connection.execute("INSERT INTO items VALUES (%s, %s)", [skill, skill])
        insert(connection, platform, skill, earlier)
    return str(skill), {"window": students * 6, "from_first_answer": students * 8}


def test_sequences_from_the_first_answer_are_unbiased_where_students_return(
    platform: Platform, nights: Night, instance: dg.DagsterInstance
) -> None:
    key, answers = half_began_earlier(platform, 3000)
    found = {}
    for sequences, count in answers.items():
        assert outcomes(nights(estimator="pooled", sequences=sequences)) == {key: "calibrated"}
        found[sequences] = fits(platform)[key]
        assert stored(platform)[key][0] == found[sequences]["pooled_p_l0"]
        assert found[sequences]["attempts"] == count
        with psycopg.connect(platform.url) as connection:
            heads = connection.execute("SELECT sequences, attempts FROM bkt_pipeline.attempt_windows")
            assert heads.fetchall() == [(sequences, count)]
    for estimate in ("grid_p_l0", "pooled_p_l0"):
        assert abs(found["from_first_answer"][estimate] - TRUTH.p_l0) <= 0.03
        assert found["window"][estimate] > TRUTH.p_l0 + 0.06


@pytest.mark.parametrize("sequences", ["window", "from_first_answer"])
def test_min_attempts_counts_the_answers_inside_the_window(
    platform: Platform, nights: Night, sequences: str
) -> None:
    key, answers = half_began_earlier(platform, 20)
    inside = answers["window"]
    assert outcomes(nights(sequences=sequences, min_attempts=inside)) == {key: "calibrated"}
    run = nights(sequences=sequences, min_attempts=inside + 1)
    assert outcomes(run) == {key: "skipped"}
    assert run.outcomes[0].reason == f"{inside} graded attempts in 30 days, fewer than {inside + 1}"
