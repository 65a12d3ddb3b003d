"""Which settings a night uses: the environment's, those of `build_definitions`, and those of a run's own config."""

import re
from collections.abc import Callable
from typing import Any, get_args

import dagster as dg
import psycopg
import pytest

from bkt_pipeline.cli.main import main
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.partitions import range_tags
from bkt_pipeline.defs.resources import (
    EstimatorName,
    ItemModelName,
    PlatformDatabase,
    SequencesName,
    ThetaSource,
)
from bkt_pipeline.defs.tags import AS_OF_TAG, night_of, night_tags
from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.settings import Settings
from bkt_pipeline_tests.conftest import AS_OF, Platform
from bkt_pipeline_tests.helpers.schools import enrol

Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def run(platform: Platform, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DATABASE_URL", platform.url)

    def run(
        definitions: dg.Definitions, job: str, config: dict[str, Any], *, whole: bool = False
    ) -> dg.ExecuteInProcessResult:
        keys = instance.get_dynamic_partitions("skill")
        return definitions.resolve_job_def(job).execute_in_process(
            instance=instance,
            tags=night_tags(AS_OF) | (range_tags(keys[0], keys[-1]) if whole else {}),
            run_config=config,
            raise_on_error=False,
        )

    return run


def used(instance: dg.DagsterInstance, done: dg.ExecuteInProcessResult) -> tuple[str, ...]:
    record = instance.get_run_record_by_id(done.run_id)
    assert record is not None
    names = ("estimator", "sequences", "window_days", "min_attempts")
    return tuple(record.dagster_run.tags[f"bkt/{name}"] for name in names)


def settings(**config: Any) -> dict[str, Any]:
    return {"resources": {"settings": {"config": config}}}


def test_each_source_of_settings_replaces_the_one_before(
    platform: Platform, instance: dg.DagsterInstance, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(platform, [3])
    job = "active_skills_job"
    assert used(instance, run(build_definitions(), job, {})) == ("grid", "window", "30", "50")
    monkeypatch.setenv("BKT_ESTIMATOR", "polished")
    monkeypatch.setenv("BKT_WINDOW_DAYS", "60")
    monkeypatch.setenv("BKT_SEQUENCES", "from_first_answer")
    expected = ("polished", "from_first_answer", "60", "50")
    assert used(instance, run(build_definitions(), job, {})) == expected
    code = build_definitions(estimator="pooled", min_attempts=10)
    assert used(instance, run(code, job, {})) == ("pooled", "from_first_answer", "60", "10")
    config = settings(window_days=7, sequences="window")
    assert used(instance, run(code, job, config)) == ("pooled", "window", "7", "10")
    config = settings(estimator="grid", min_attempts=20)
    assert used(instance, run(code, job, config)) == ("grid", "from_first_answer", "60", "20")


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"settings": {"estimator": "best"}}, "not in enum type EstimatorName got best"),
    ({"settings": {"sequences": "all"}}, "not in enum type SequencesName got all"),
    ({"settings": {"window_days": "long"}}, "window_days"),
    ({"settings": {"publish": "maybe"}}, "publish"),
    ({"settings": {"estimater": "grid"}}, "estimater"),
    ({"item_settings": {"theta_from": "thin air"}}, "not in enum type ThetaSource got thin air"),
    ({"item_settings": {"item_model": "3pl"}}, "not in enum type ItemModelName got 3pl"),
    ({"settings": {"window_days": 0}}, "window_days is 0; it must be greater than or equal to 1"),
    ({"settings": {"window_days": 3651}}, "window_days is 3651; it must be less than or equal to 3650"),
    ({"settings": {"min_attempts": -1}}, "min_attempts is -1; it must be greater than or equal to 0"),
    ({"settings": {"min_attempts": 0}}, "min_attempts is 0 and the estimator is grid"),
    ({"settings": {"as_of": "yesterday"}}, "as_of 'yesterday' is not an ISO 8601 time"),
    (
        {"settings": {"as_of": "2999-01-01"}},
        "as_of 2999-01-01T00:00:00+00:00 is in the future: this machine's clock",
    ),
    ({"item_settings": {"min_answers": 0}}, "min_answers is 0; it must be greater than or equal to 1"),
]


@pytest.mark.parametrize(("resources", "why"), INVALID, ids=str)
def test_an_invalid_setting_is_refused_before_there_is_a_run(
    instance: dg.DagsterInstance, run: Run, resources: dict[str, Any], why: str
) -> None:
    """A job is launched with the same check of its config, whether in this process or from the launchpad."""
    config = {"resources": {name: {"config": given} for name, given in resources.items()}}
    for job in ("active_skills_job", "nightly_irt"):
        with pytest.raises(dg.DagsterInvalidConfigError, match=re.escape(why)):
            run(build_definitions(), job, config)
    assert instance.get_runs() == []


def test_the_launchpad_offers_what_the_environment_may_be() -> None:
    for name, choices in (
        ("estimator", EstimatorName),
        ("sequences", SequencesName),
        ("theta_from", ThetaSource),
        ("item_model", ItemModelName),
    ):
        assert tuple(choices) == get_args(Settings.model_fields[name].annotation)


def test_an_environment_that_cannot_be_used_ends_the_nights_first_run(
    platform: Platform, instance: dg.DagsterInstance, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(platform, [3])
    monkeypatch.setenv("BKT_MIN_ATTEMPTS", "0")
    done = run(build_definitions(), "active_skills_job", {})
    assert not done.success
    logged = "".join(str(entry) for entry in instance.all_logs(done.run_id))
    assert "min_attempts is 0 and the estimator is grid" in logged
    assert instance.get_dynamic_partitions("skill") == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"estimator": "best"}, "estimator is 'best'"),
        ({"window_days": 0}, "window_days is 0"),
        ({"min_attempts": -1}, "min_attempts is -1"),
        ({"items": {"theta_from": "air"}}, "theta_from is 'air'"),
        ({"items": {"colour": "red"}}, "colour is not a setting"),
    ],
    ids=str,
)
def test_definitions_refuse_an_invalid_setting(given: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidSettings, match=why):
        build_definitions(**given)


def test_the_command_refuses_settings_that_cannot_be_used(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["nightly", "--min-attempts", "0"]) == 2
    assert "min_attempts is 0 and the estimator is grid" in capfd.readouterr().err


def test_the_nights_other_runs_get_the_settings_of_its_first(
    platform: Platform, instance: dg.DagsterInstance, run: Run
) -> None:
    enrol(platform, [20, 20])
    config = settings(estimator="pooled", window_days=60, min_attempts=0)
    config["resources"]["item_settings"] = {"config": {"window_days": 45}}
    assert run(build_definitions(), "active_skills_job", config).success
    with dg.build_sensor_context(instance) as context:
        shards = build_definitions().resolve_sensor_def("start_shards")(context)
    assert isinstance(shards, dg.SensorResult)
    (shard,) = shards.run_requests or []
    assert shard.run_config == config
    done = run(build_definitions(), "calibration", dict(shard.run_config), whole=True)
    assert done.success
    assert used(instance, done) == ("pooled", "window", "60", "0")
    with psycopg.connect(platform.url) as connection:
        fitted = connection.execute("SELECT DISTINCT estimator FROM bkt_pipeline.skill_fits").fetchall()
    assert fitted == [("pooled",)]
    with dg.build_sensor_context(instance, resources={"database": PlatformDatabase()}) as context:
        items = build_definitions().resolve_sensor_def("nightly_irt")(context)
    assert isinstance(items, dg.SensorResult)
    (request,) = items.run_requests or []
    assert (request.job_name, request.run_config) == ("nightly_irt", config)
    done = run(build_definitions(), "nightly_irt", dict(request.run_config), whole=True)
    assert done.success
    assert used(instance, done) == ("pooled", "window", "60", "0")


def test_an_as_of_in_the_config_is_the_nights(
    platform: Platform, instance: dg.DagsterInstance, run: Run
) -> None:
    enrol(platform, [3])
    moment = "2025-12-30T07:00:00+00:00"
    done = run(build_definitions(), "active_skills_job", settings(as_of=moment))
    record = instance.get_run_record_by_id(done.run_id)
    assert record is not None
    assert night_of(record).isoformat() == moment
    with dg.build_sensor_context(instance) as context:
        shards = build_definitions().resolve_sensor_def("start_shards")(context)
    assert isinstance(shards, dg.SensorResult)
    assert [request.tags[AS_OF_TAG] for request in shards.run_requests or []] == [moment]


def test_a_rehearsal_from_the_launchpad_is_not_the_night_whose_items_follow(
    platform: Platform, instance: dg.DagsterInstance, run: Run
) -> None:
    enrol(platform, [20])
    assert run(build_definitions(), "active_skills_job", settings(publish=False)).success
    with dg.build_sensor_context(instance) as context:
        shards = build_definitions().resolve_sensor_def("start_shards")(context)
    assert isinstance(shards, dg.SensorResult)
    assert [request.run_config for request in shards.run_requests or []] == [settings(publish=False)]
    with dg.build_sensor_context(instance, resources={"database": PlatformDatabase()}) as context:
        items = build_definitions().resolve_sensor_def("nightly_irt")(context)
    assert isinstance(items, dg.SkipReason)
