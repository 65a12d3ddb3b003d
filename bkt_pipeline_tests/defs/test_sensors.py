"""What the sensors start at each evaluation, on a real instance."""

import datetime as dt
from collections.abc import Callable

import dagster as dg
import pytest

from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.night_state import PAGE, latest_night_run
from bkt_pipeline.defs.partitions import range_tags
from bkt_pipeline.defs.resources import PlatformDatabase
from bkt_pipeline.defs.sensors import next_to_start
from bkt_pipeline.defs.tags import AS_OF_TAG, COMMAND_TAG, REHEARSAL_TAG, night_tags
from bkt_pipeline_tests.conftest import AS_OF, Platform
from bkt_pipeline_tests.helpers.schools import enrol, summary

NIGHT = night_tags(AS_OF)


class Sensor:
    """Evaluates the sensor like the daemon, with the cursor from the previous evaluation."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor: str | None = None

    def evaluate(self) -> list[tuple[str | None, str | None]] | str:
        """Job and run key of each run that it requests, or its skip message."""
        resources = {"database": PlatformDatabase()}
        with dg.build_sensor_context(self.instance, cursor=self.cursor, resources=resources) as context:
            result = build_definitions().resolve_sensor_def("nightly_irt")(context)
        if isinstance(result, dg.SkipReason):
            return result.skip_message or ""
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return [(request.job_name, request.run_key) for request in result.run_requests or []]


@pytest.fixture
def run(
    platform: Platform, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    monkeypatch.setenv("DATABASE_URL", platform.url)

    def run(job: str, *keys: str, **settings: int) -> None:
        done = (
            build_definitions()
            .resolve_job_def(job)
            .execute_in_process(
                instance=instance,
                tags=NIGHT | (range_tags(*keys) if keys else {}),
                run_config={"resources": {"settings": {"config": settings}}} if settings else {},
            )
        )
        assert done.success

    return run


def test_a_night_without_a_calibrated_skill_gets_a_summary_and_no_item_run(
    platform: Platform, instance: dg.DagsterInstance, run: Callable[..., None]
) -> None:
    keys = list(enrol(platform, [3, 4]))
    sensor = Sensor(instance)
    assert "waiting for a night" in sensor.evaluate()
    run("active_skills_job")
    assert "the night's shards have not started; 2 of 2 skills have no outcome yet" in sensor.evaluate()
    run("calibration", keys[0], keys[-1])
    assert sensor.evaluate() == [("summaries", sensor.cursor)]
    run("summaries")
    shown = summary(instance)
    counts = [shown[name].value for name in ("skills", "calibrated", "skipped", "without_outcome")]
    assert counts == [2, 0, 2, 0]
    reasons = [record.data["reason"] for record in shown["skipped_or_failed"].records]
    assert reasons == [f"{n} graded attempts in 30 days, fewer than 50" for n in (18, 24)]
    assert "items cannot be calibrated" in sensor.evaluate()

    # One skill is then calibrated: its items are calibrated too, and a second summary includes it.
    first_summary = sensor.cursor
    run("calibration", keys[1], keys[1], min_attempts=20)
    ((job, _),) = sensor.evaluate()
    assert job == "nightly_irt"
    ((job, run_key),) = sensor.evaluate()
    assert job == "summaries"
    assert run_key != first_summary
    assert "waiting for the next" in sensor.evaluate()


def test_skills_left_without_an_outcome_by_a_crash_are_counted(
    platform: Platform, instance: dg.DagsterInstance, run: Callable[..., None]
) -> None:
    keys = list(enrol(platform, [3, 3, 3]))
    run("active_skills_job")
    run("calibration", keys[0], keys[0])
    run("summaries")
    assert summary(instance)["without_outcome"].value == 2


def test_a_night_that_began_before_the_first_evaluation_gets_its_shards_once(
    platform: Platform, instance: dg.DagsterInstance, run: Callable[..., None]
) -> None:
    enrol(platform, [3, 4])

    def evaluate(cursor: str | None) -> dg.SensorResult | dg.SkipReason:
        with dg.build_sensor_context(instance, cursor=cursor) as context:
            return build_definitions().resolve_sensor_def("start_shards")(context)

    assert "waiting for a night" in evaluate(None).skip_message
    run("active_skills_job")
    first = evaluate(None)
    assert [request.run_key for request in first.run_requests] == [f"{AS_OF.isoformat()} 1 of 1"]
    assert all(NIGHT.items() <= request.tags.items() for request in first.run_requests)
    assert "waiting for the next" in evaluate(first.cursor).skip_message


def test_nights_of_the_command_and_rehearsals_never_hide_the_scheduled_one_nor_it_them(
    instance: dg.DagsterInstance,
) -> None:
    installation = Installation()

    def night(day: int, **more: str) -> dict[str, str]:
        return night_tags(AS_OF + dt.timedelta(days=day)) | installation.tags | more

    rehearsed = {REHEARSAL_TAG: "true"}
    begun = {
        "missed": night(0),
        "night": night(1),
        "rehearsal": night(-9, **rehearsed),
        **{f"command {number}": night(1, **{COMMAND_TAG: "nightly"}) for number in range(PAGE + 1)},
        "rehearsal before the next night": night(-8, **rehearsed),
        "next night": night(2),
    }

    def begin(*names: str) -> None:
        for name in names:
            instance.add_run(
                dg.DagsterRun(
                    job_name="active_skills_job",
                    run_id=name,
                    status=dg.DagsterRunStatus.SUCCESS,
                    tags=begun[name],
                )
            )

    def starts(cursor: str | None) -> list[str]:
        started: list[str] = []
        while record := next_to_start(instance, installation, cursor):
            started.append(record.dagster_run.run_id)
            cursor = begun[started[-1]][AS_OF_TAG]
        return started

    first, later = list(begun)[:-2], list(begun)[-2:]
    begin(*first)
    found = latest_night_run(instance, installation)
    assert found is not None
    assert found.dagster_run.run_id == "night"
    assert starts(None) == ["night", "rehearsal"]
    begin(*later)
    assert starts(begun["rehearsal"][AS_OF_TAG]) == later
