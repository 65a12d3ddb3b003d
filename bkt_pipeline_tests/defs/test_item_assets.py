"""Items through Dagster, on a real instance and real databases."""

import datetime as dt
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dagster as dg
import numpy as np
import psycopg
import pytest
from psycopg import sql

from bkt_pipeline.calibration.comparison import item_sentence
from bkt_pipeline.calibration.item_checks import ITEM_CHECKS
from bkt_pipeline.db.database import open_database
from bkt_pipeline.db.ledger import item_prior
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.night import NightRun, run_night
from bkt_pipeline.defs.partitions import range_tags
from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.model.bkt.replay import predict, replay
from bkt_pipeline.model.irt.comparison import pool_comparisons
from bkt_pipeline.model.irt.curve import ability, probability
from bkt_pipeline.model.irt.offset import fit_offsets
from bkt_pipeline.model.irt.prior import SHIPPED_ITEM_PRIOR
from bkt_pipeline.model.irt.two_pl import fit_item
from bkt_pipeline.model.params import BktParams
from bkt_pipeline_tests.conftest import AS_OF, Platform
from bkt_pipeline_tests.helpers.schools import checks_of, moment_of, next_id, statuses

ITEMS = dg.AssetKey("item_irt_params")
PARAMS = BktParams(0.3, 0.15, 0.1, 0.2)
LAST_QUARTER = AS_OF - dt.timedelta(days=60)  # read for the items, too old for the skill's own window
Run = Callable[..., dg.ExecuteInProcessResult]


def enrol(
    platform: Platform,
    skill: int,
    items: Sequence[tuple[float, float]],
    n_students: int = 30,
    length: int = 8,
    when: dt.datetime = LAST_QUARTER,
    params: BktParams | None = PARAMS,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Insert a skill with its parameters, whose students answer each item by the 2PL with the item's (a, b) and the
    ability from the replay. Returns the theta and the answers for each item."""
    rng = np.random.default_rng(skill)
    chosen = rng.integers(0, len(items), (n_students, length))
    a, b = np.array(items).T
    right = np.zeros((n_students, length), np.uint8)
    theta = np.zeros((n_students, length))
    known = np.full(n_students, PARAMS.p_l0)
    for attempt in range(length):
        theta[:, attempt] = ability(predict(known, PARAMS))
        of = chosen[:, attempt]
        right[:, attempt] = rng.random(n_students) < probability(theta[:, attempt], a[of], b[of])
        so_far = right[:, : attempt + 1].ravel()
        _, after = replay(so_far, np.arange(n_students + 1) * (attempt + 1), PARAMS)
        known = after[attempt :: attempt + 1]
    names = [platform.id(100 * skill + place) for place in range(len(items))]
    last = int(when.timestamp() * 1e6)
    with psycopg.connect(platform.url) as connection:
        connection.execute("INSERT INTO skills (id, active) VALUES (%s, true)", [platform.id(skill)])
        for name in names:
            connection.execute("INSERT INTO items (id, skill_id) VALUES (%s, %s)", [name, platform.id(skill)])
        if params is not None:
            connection.execute(
                "INSERT INTO skill_bkt_params VALUES (%s, %s, %s, %s, %s, NULL, now())",
                [platform.id(skill), *params.values],
            )
        columns = "COPY attempts (id, student_id, item_id, is_correct, created_at) FROM STDIN"
        with connection.cursor().copy(columns) as copy:
            for student, attempt in np.ndindex(n_students, length):
                moment = moment_of(last - (length - attempt) * 1_000_000, platform)
                item = names[chosen[student, attempt]]
                grade = bool(right[student, attempt])
                copy.write_row((platform.id(next_id()), platform.id(student + 1), item, grade, moment))
    return {str(name): (theta[chosen == place], right[chosen == place]) for place, name in enumerate(names)}


@pytest.fixture
def ready(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The platform with all of our tables."""
    monkeypatch.setenv("DATABASE_URL", platform.url)
    open_database().close()
    return platform


@pytest.fixture
def calibrate(ready: Platform, instance: dg.DagsterInstance) -> Run:
    """Calibrates the items of the skills in a run like those of the sensor."""

    def run(*skills: int, as_of: dt.datetime = AS_OF, **settings: Any) -> dg.ExecuteInProcessResult:
        keys = [str(ready.id(skill)) for skill in skills]
        instance.add_dynamic_partitions("skill", keys)
        config = {"resources": {"item_settings": {"config": settings}}} if settings else {}
        job = build_definitions().resolve_job_def("nightly_irt")
        return job.execute_in_process(
            run_config=config,
            instance=instance,
            tags={"bkt/as_of": as_of.isoformat(), **range_tags(keys[0], keys[-1])},
            raise_on_error=False,
        )

    return run


def stored(platform: Platform) -> dict[str, tuple[float | None, float | None]]:
    with psycopg.connect(platform.url) as connection:
        rows = connection.execute("SELECT item_id, irt_a, irt_b FROM bkt_pipeline.item_irt_params").fetchall()
    return {item: (a, b) for item, a, b in rows}


def expected(answers: dict[str, tuple[np.ndarray, np.ndarray]], **settings: Any) -> dict[str, Any]:
    fits = {item: fit_item(*given, **settings) for item, given in answers.items()}
    return {
        item: (None, None) if np.isnan(fit.irt_a) else pytest.approx((fit.irt_a, fit.irt_b), abs=1e-6)
        for item, fit in fits.items()
    }


def add_item_columns(platform: Platform) -> None:
    with psycopg.connect(platform.url) as connection:
        connection.execute(
            "ALTER TABLE items ADD irt_a float8, ADD irt_b float8, ADD irt_calibrated_at timestamptz"
        )


def latest(instance: dg.DagsterInstance, partition: str) -> dict[str, Any]:
    (record,) = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=ITEMS, asset_partitions=[partition]), limit=1
    ).records
    assert record.asset_materialization is not None
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


def logged(instance: dg.DagsterInstance, run_id: str, words: str) -> list[str]:
    return [entry.user_message for entry in instance.all_logs(run_id) if words in entry.user_message]


def test_a_night_recovers_simulated_items_with_the_stored_skill_parameters(
    ready: Platform, instance: dg.DagsterInstance
) -> None:
    """The skill's own window is empty, so it is skipped; the items use its stored parameters from an earlier night."""
    with psycopg.connect(ready.url) as connection:
        connection.execute(
            "ALTER TABLE items ADD irt_a real, ADD irt_b real, ADD irt_calibrated_at timestamptz"
        )
    truth = [(0.8, -1.5), (1.0, -0.5), (1.4, 0.0), (1.8, 0.5), (1.2, 1.5), (2.2, 1.0)]
    answers = enrol(ready, 1, truth, n_students=500, length=10)
    few = enrol(ready, 2, [(1.0, 0.0)], n_students=4)
    with open_database() as database:
        run: NightRun = run_night(database, build_definitions(), instance, AS_OF)
    assert [outcome.outcome for outcome in run.outcomes] == ["skipped", "skipped"]
    found = stored(ready)
    assert found == expected(answers) | dict.fromkeys(few, (None, None))
    errors = np.array([found[item] for item in answers], float) - np.array(truth)
    assert np.sqrt((errors**2).mean(0)) == pytest.approx([0, 0], abs=0.25)

    assert run.items is not None
    first, second = run.items
    assert (first.outcome, first.calibrated, first.attempts) == ("calibrated", 6, 5000)
    assert (second.outcome, second.skipped) == ("skipped", 1)
    with psycopg.connect(ready.url) as connection:
        shown = connection.execute(
            "SELECT id::text, irt_a, irt_b FROM items WHERE irt_a IS NOT NULL"
        ).fetchall()
    assert {item: (a, b) for item, a, b in shown} == {
        item: pytest.approx(found[item], rel=1e-6) for item in answers
    }
    key = str(ready.id(1))
    of_items = [check for check in checks_of(instance, key) if check.asset_key == ITEMS]
    assert {check.check_name: check.passed for check in of_items} == {
        check.name: True for check in ITEM_CHECKS
    }
    summary = instance.get_latest_materialization_event(dg.AssetKey("item_summary"))
    assert summary is not None
    assert summary.asset_materialization is not None
    shown = summary.asset_materialization.metadata
    assert (shown["calibrated"].value, shown["skipped"].value) == (6, 1)
    assert "6 calibrated items" in str(shown["item_map"].value)
    assert "data:image/svg+xml," in str(shown["item_map"].value)


def test_skipped_skills_are_materialised_with_a_reason_and_a_warning(
    ready: Platform, calibrate: Run, instance: dg.DagsterInstance
) -> None:
    enrol(ready, 1, [(1.0, 0.0)], n_students=5)
    enrol(ready, 2, [(1.0, 0.0)], params=None)
    assert calibrate(1, 2).success
    first, second = (str(ready.id(skill)) for skill in (1, 2))
    assert statuses(instance, ITEMS) == dict.fromkeys([first, second], "MATERIALIZED")
    reason = "no item has 50 graded answers, both right and wrong; the most for one item is 40"
    assert latest(instance, first)["reason"] == reason
    assert "never calibrated" in latest(instance, second)["reason"]
    (check,) = checks_of(instance, first)
    assert (check.check_name, check.passed) == ("items_have_enough_answers", False)
    assert check.severity == dg.AssetCheckSeverity.WARN


def test_only_the_failing_skill_fails_until_it_is_fixed(
    ready: Platform, calibrate: Run, instance: dg.DagsterInstance
) -> None:
    """The database refuses one skill's row; another skill's parameters are invalid."""
    answers = enrol(ready, 1, [(1.0, 0.0)])
    enrol(ready, 2, [(1.0, 0.0)])
    enrol(ready, 3, [(1.0, 0.0)])
    good, refused, impossible = (str(ready.id(skill)) for skill in (1, 2, 3))
    with psycopg.connect(ready.url) as connection:
        refusal = "ALTER TABLE bkt_pipeline.item_irt_params ADD CONSTRAINT refused CHECK (skill_id <> {})"
        connection.execute(sql.SQL(refusal).format(refused))
        connection.execute("UPDATE skill_bkt_params SET p_guess = 0.7 WHERE skill_id = %s", [ready.id(3)])
    failed = calibrate(1, 2, 3)
    assert not failed.success
    assert stored(ready) == expected(answers)
    assert statuses(instance, ITEMS) == {good: "MATERIALIZED", refused: "FAILED", impossible: "FAILED"}
    (failure,) = [e for e in failed.all_events if e.is_step_failure]
    assert "p_guess is 0.7" in failure.step_failure_data.error.to_string()
    with psycopg.connect(ready.url) as connection:
        connection.execute("ALTER TABLE bkt_pipeline.item_irt_params DROP CONSTRAINT refused")
        connection.execute("UPDATE skill_bkt_params SET p_guess = 0.2")
    assert calibrate(2, 3).success
    assert set(statuses(instance, ITEMS).values()) == {"MATERIALIZED"}


def test_items_of_the_platform_that_keep_no_values_fail_their_skill_alone(
    ready: Platform, calibrate: Run, instance: dg.DagsterInstance
) -> None:
    """One trigger discards the update; another, deferred, changes what was written when the transaction ends."""
    answers = {skill: enrol(ready, skill, [(1.0, 0.0)]) for skill in (1, 2, 3)}
    add_item_columns(ready)
    with psycopg.connect(ready.url) as connection:
        triggers = sql.SQL(
            """
            CREATE FUNCTION discard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
            CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN UPDATE items SET irt_b = 9 WHERE id = NEW.id AND irt_b <> 9; RETURN NULL; END';
            CREATE TRIGGER discard BEFORE UPDATE ON items FOR EACH ROW
                WHEN (NEW.skill_id = {}) EXECUTE FUNCTION discard();
            CREATE CONSTRAINT TRIGGER change AFTER UPDATE ON items DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
                WHEN (NEW.skill_id = {}) EXECUTE FUNCTION change();
            """
        )
        connection.execute(triggers.format(ready.id(2), ready.id(3)))
    failed = calibrate(1, 2, 3)
    (failure,) = [e for e in failed.all_events if e.is_step_failure]
    error = failure.step_failure_data.error.to_string()
    assert "items holds irt_a None after" in error
    assert "items holds irt_b 9.0 after" in error
    assert stored(ready) == expected(answers[1])
    assert list(statuses(instance, ITEMS).values()) == ["MATERIALIZED", "FAILED", "FAILED"]
    with psycopg.connect(ready.url) as connection:
        assert connection.execute("SELECT count(irt_a), max(irt_b) < 9 FROM items").fetchone() == (1, True)


def test_an_older_night_is_overtaken(ready: Platform, calibrate: Run, instance: dg.DagsterInstance) -> None:
    enrol(ready, 1, [(1.0, 0.0)])
    calibrate(1)
    newest = stored(ready)
    assert calibrate(1, as_of=AS_OF - dt.timedelta(days=1), method="ml").success
    assert stored(ready) == newest
    assert latest(instance, str(ready.id(1)))["outcome"] == "overtaken"

    # Once the newer night's parameters of the skill are rolled back, its items give way too.
    with psycopg.connect(ready.url) as connection:
        key, older = str(ready.id(1)), AS_OF - dt.timedelta(days=2)
        connection.execute(
            "INSERT INTO bkt_pipeline.published_params (skill_id, as_of, run_id) VALUES (%s, %s, 'x')",
            [key, older],
        )
        connection.execute(
            "INSERT INTO bkt_pipeline.night_skills (night, skill_id, as_of, outcome, run_id, recorded_at)"
            " VALUES (%s, %s, %s, 'rolled_back', 'x', now())",
            [AS_OF.date(), key, AS_OF],
        )
    assert calibrate(1, as_of=AS_OF - dt.timedelta(days=1), method="ml").success
    assert stored(ready) != newest


def test_settings_reach_the_fit(ready: Platform, calibrate: Run) -> None:
    answers = enrol(ready, 1, [(1.0, 0.0), (1.5, 0.5)], n_students=20)
    assert calibrate(1, method="ml", min_answers=70).success
    assert stored(ready) == expected(answers, method="ml", min_answers=70)


def test_theta_can_come_from_the_platforms_mastery(
    ready: Platform, calibrate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = enrol(ready, 1, [(1.0, 0.0)])
    monkeypatch.setenv("BKT_THETA_FROM", "mastery")
    refused = calibrate(1)
    (failure,) = [e for e in refused.all_events if e.is_step_failure]
    assert "no table student_skill_mastery" in failure.step_failure_data.error.to_string()
    with psycopg.connect(ready.url) as connection:
        connection.execute(
            "CREATE TABLE student_skill_mastery AS SELECT DISTINCT student_id, skill_id,"
            " (get_byte(uuid_send(student_id), 15) + 1) / 40.0 AS p_known"
            " FROM attempts JOIN items ON items.id = item_id"
        )
    assert calibrate(1).success
    ((item, (_, right)),) = answers.items()
    students = np.repeat(np.arange(1, 31), 8)
    fit = fit_item(ability(predict((students + 1) / 40, PARAMS)), right)
    assert stored(ready) == {item: pytest.approx((fit.irt_a, fit.irt_b), abs=1e-6)}


@pytest.mark.parametrize("refusal", ["rights", "setting"])
def test_a_night_continues_without_the_right_to_update_items(
    ready: Platform,
    calibrate: Run,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    refusal: str,
) -> None:
    answers = enrol(ready, 1, [(1.0, 0.0)]) | enrol(ready, 2, [(1.0, 0.0)])
    role = sql.Identifier(f"bkt_limited_{refusal}")
    with psycopg.connect(ready.url) as connection:
        connection.execute(
            "ALTER TABLE items ADD irt_a real, ADD irt_b real, ADD irt_calibrated_at timestamptz"
        )
        connection.execute(sql.SQL("CREATE ROLE {}").format(role))
        for grant in (
            "SELECT ON ALL TABLES IN SCHEMA public",
            "INSERT, UPDATE ON skill_bkt_params",
            "ALL ON SCHEMA bkt_pipeline",
            "ALL ON ALL TABLES IN SCHEMA bkt_pipeline",
        ):
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.SQL(grant), role))
    try:
        if refusal == "rights":
            monkeypatch.setenv("DATABASE_URL", f"{ready.url}&options=-c%20role%3Dbkt_limited_rights")
        else:
            monkeypatch.setenv("BKT_UPDATE_ITEMS", "no")
        result = calibrate(1, 2)
        assert result.success
    finally:
        with psycopg.connect(ready.url) as connection:
            connection.execute(sql.SQL("DROP OWNED BY {role}; DROP ROLE {role}").format(role=role))
            updated = connection.execute("SELECT count(irt_a) FROM items").fetchone()
    assert updated == (0,)
    assert stored(ready) == expected(answers)
    warned = logged(instance, result.run_id, "the role may not update items.irt_a")
    assert len(warned) == (1 if refusal == "rights" else 0)


def test_an_invalid_setting_is_named(
    calibrate: Run, ready: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(ready, 1, [(1.0, 0.0)])
    with monkeypatch.context() as patch:
        patch.setenv("BKT_UPDATE_ITEMS", "perhaps")
        with pytest.raises(InvalidSettings, match="BKT_UPDATE_ITEMS is 'perhaps'; it must be yes or no"):
            calibrate(1)


def platform_items(platform: Platform) -> dict[tuple[str, str], tuple[float | None, float | None]]:
    with psycopg.connect(platform.url) as connection:
        rows = connection.execute("SELECT skill_id::text, id::text, irt_a, irt_b FROM items").fetchall()
    return {(skill, item): (a, b) for skill, item, a, b in rows}


def stored_offsets(platform: Platform) -> dict[tuple[str, str], tuple[float, list[str]]]:
    with psycopg.connect(platform.url) as connection:
        rows = connection.execute(
            "SELECT skill_id, item_id, offset_d, flags FROM bkt_pipeline.item_irt_params"
        ).fetchall()
    return {(skill, item): (d, flags) for skill, item, d, flags in rows}


def red_checks(instance: dg.DagsterInstance, *keys: str) -> list[str]:
    found = [check for key in keys for check in checks_of(instance, key) if check.asset_key == ITEMS]
    assert found
    return [check.check_name for check in found if not check.passed]


def test_with_offsets_an_item_gets_numbers_from_its_first_answers(
    ready: Platform, calibrate: Run, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_item_columns(ready)
    answers = enrol(ready, 1, [(1.0, 0.0), (1.0, 1.0), (1.0, -1.0)], n_students=9)
    key = str(ready.id(1))
    monkeypatch.setenv("BKT_ITEM_MODEL", "offset")
    result = calibrate(1)
    assert result.success
    metadata = latest(instance, key)
    assert (metadata["outcome"], metadata["skipped"]) == ("calibrated", 3)
    assert red_checks(instance, key) == []
    assert platform_items(ready) == {
        (key, item): (1, pytest.approx(-fit_offsets(theta, right, [0, right.size]).d[0]))
        for item, (theta, right) in answers.items()
    }
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags["bkt/item_model"] == "offset"


def test_fewer_answers_never_take_a_2pl_away_whatever_the_model(
    ready: Platform, calibrate: Run, instance: dg.DagsterInstance
) -> None:
    add_item_columns(ready)
    enrol(ready, 1, [(1.0, 0.0)], n_students=20)
    calibrate(1, item_model="offset")
    full, shown = stored(ready), platform_items(ready)
    later = AS_OF + dt.timedelta(days=1)
    with psycopg.connect(ready.url) as connection:
        connection.execute("DELETE FROM attempts WHERE student_id > %s", [ready.id(3)])
    assert calibrate(1, as_of=later, item_model="offset").success
    assert (stored(ready), platform_items(ready)) == (full, shown)
    metadata = latest(instance, str(ready.id(1)))
    assert (metadata["outcome"], "fitted on more answers" in metadata["reason"]) == ("skipped", True)


@pytest.mark.parametrize("model", ["2pl", "offset"])
def test_an_item_that_everybody_got_right_is_flagged_and_the_platform_keeps_what_it_has(
    ready: Platform, calibrate: Run, instance: dg.DagsterInstance, model: str
) -> None:
    add_item_columns(ready)
    easy, hard = enrol(ready, 1, [(1.0, 0.0), (1.0, 0.5)])
    key = str(ready.id(1))
    with psycopg.connect(ready.url) as connection:
        connection.execute("UPDATE attempts SET is_correct = true WHERE item_id = %s", [easy])
        connection.execute("UPDATE items SET irt_a = 2, irt_b = -3")
    assert calibrate(1, item_model=model).success
    found, shown = stored_offsets(ready), platform_items(ready)
    assert found[key, easy][1] == ["all_right"]
    assert found[key, easy][0] > 0
    assert shown[key, easy] == (2, -3)
    a, b = shown[key, hard]
    assert (a, b) != (2, -3)
    if model == "offset":
        assert (a, b) == (1, pytest.approx(-found[key, hard][0]))
    assert red_checks(instance, key) == []


def test_an_item_of_two_skills_has_parameters_in_each(
    ready: Platform, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key is the pair of item and skill; a night calibrates it in both."""
    add_item_columns(ready)
    with psycopg.connect(ready.url) as connection:
        connection.execute(
            "ALTER TABLE items DROP CONSTRAINT items_pkey CASCADE, ADD PRIMARY KEY (id, skill_id)"
        )
    items = enrol(ready, 1, [(1.0, -0.5), (1.0, 0.0), (1.2, 0.5), (1.0, 1.0)], n_students=60, when=AS_OF)
    first, second = str(ready.id(1)), str(ready.id(2))
    both = list(items)[2:]
    with psycopg.connect(ready.url) as connection:
        connection.execute("INSERT INTO skills (id, active) VALUES (%s, true)", [second])
        for item in both:
            connection.execute("INSERT INTO items (id, skill_id) VALUES (%s, %s)", [item, second])
    monkeypatch.setenv("BKT_ITEM_MODEL", "offset")
    with open_database() as database:
        run = run_night(database, build_definitions(), instance, AS_OF)
    assert [outcome.outcome for outcome in run.outcomes] == ["calibrated", "calibrated"]
    found = stored_offsets(ready)
    pairs = {(first, item) for item in items} | {(second, item) for item in both}
    assert found.keys() == pairs
    assert platform_items(ready) == {pair: (1, pytest.approx(-found[pair][0])) for pair in pairs}
    assert all(found[first, item][0] != found[second, item][0] for item in both)
    failed = set(red_checks(instance, first, second))
    assert failed <= {"log_likelihood_beats_constant"}, "a warning that so few answers may give"


def test_a_night_compares_the_item_models_and_learns_the_prior_for_the_next(
    ready: Platform, instance: dg.DagsterInstance
) -> None:
    enrol(ready, 1, [(1.0, -1.5), (1.0, 0.0), (1.0, 1.5)], n_students=200, when=AS_OF)
    enrol(ready, 2, [(1.0, -1.0), (1.0, 1.0)], n_students=100, when=AS_OF)
    with open_database() as database:
        run = run_night(database, build_definitions(), instance, AS_OF)
        first = database.run(partial(item_prior, night=AS_OF.date()))
        second = database.run(partial(item_prior, night=AS_OF.date() + dt.timedelta(days=1)))
        alone = stored(ready)
        assert run.items is not None
        scores = [outcome.comparison for outcome in run.items]
        run_night(database, build_definitions(), instance, AS_OF + dt.timedelta(days=1))
    one, two = (score for score in scores if score is not None)
    assert (one.n_answers % 8, two.n_answers % 8) == (0, 0)
    assert one.offset > one.bkt
    pooled = pool_comparisons([one, two])
    assert pooled is not None
    assert run.item_comparison == item_sentence(pooled)
    summary = instance.get_latest_materialization_event(dg.AssetKey("item_summary"))
    assert summary is not None
    assert summary.asset_materialization is not None
    shown = summary.asset_materialization.metadata
    assert str(shown["best_item_model"].value).startswith("of the item models, ")
    assert {f"held_out_{name}" for name in ("bkt", "success_rate", "two_pl", "offset")} <= shown.keys()
    assert first == SHIPPED_ITEM_PRIOR
    assert second != SHIPPED_ITEM_PRIOR
    again = stored(ready)
    assert again.keys() == alone.keys()
    assert again != alone, "the second night's prior is learned from the first"
