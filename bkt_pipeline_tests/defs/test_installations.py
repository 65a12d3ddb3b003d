"""Installations in one Dagster: beside another team's partitions and runs, and beside each other."""

import subprocess
import sys
from collections.abc import Callable

import dagster as dg
import psycopg
import pytest

from bkt_pipeline import BktCalibration
from bkt_pipeline.db.database import open_database
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.night import run_night
from bkt_pipeline.defs.partitions import RANGE_END, RANGE_START
from bkt_pipeline.defs.resources import PlatformDatabase
from bkt_pipeline.defs.tags import AS_OF_TAG, DATABASE_TAG, PARTITIONS_TAG, night_tags
from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline_tests.conftest import AS_OF, Platform
from bkt_pipeline_tests.helpers.schools import enrol, outcomes, stored

NIGHT = night_tags(AS_OF)
THEIR_KEYS = ["fencing", "rowing"]


@dg.asset(partitions_def=dg.DynamicPartitionsDefinition(name="skill"))
def lesson_plans() -> int:
    return 1


@dg.asset
def active_coaches() -> int:
    return 1


THEIRS = dg.Definitions(
    assets=[lesson_plans, active_coaches],
    jobs=[
        dg.define_asset_job("calibration", selection="lesson_plans"),
        dg.define_asset_job("active_skills_job", selection="active_coaches"),
    ],
)


def another_team(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """A code location with partitions and jobs of our names: a night that succeeded, and two runs in flight."""
    instance.add_dynamic_partitions("skill", THEIR_KEYS)
    THEIRS.resolve_job_def("active_skills_job").execute_in_process(instance=instance)
    return [
        instance.create_run_for_job(
            THEIRS.resolve_job_def("calibration"), tags=tags, status=dg.DagsterRunStatus.STARTED
        )
        for tags in ({"dagster/partition": "rowing"}, {RANGE_START: "fencing", RANGE_END: "rowing", **NIGHT})
    ]


def evaluate(
    definitions: dg.Definitions, sensor: str, instance: dg.DagsterInstance
) -> dg.SensorResult | dg.SkipReason:
    resources = {"database": PlatformDatabase()}
    with dg.build_sensor_context(instance, resources=resources) as context:
        found = definitions.resolve_sensor_def(sensor)(context)
    assert isinstance(found, dg.SensorResult | dg.SkipReason)
    return found


def run(definitions: dg.Definitions, instance: dg.DagsterInstance, request: dg.RunRequest) -> None:
    job = definitions.resolve_job_def(request.job_name or "calibration")
    assert job.execute_in_process(instance=instance, tags=request.tags).success


@pytest.mark.parametrize("name", ["skill", "school_skill"])
def test_another_teams_partitions_and_runs_are_left_alone_and_do_not_delay_a_night(
    platform: Platform, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", platform.url)
    monkeypatch.setenv("BKT_PARTITIONS", name)
    first, _ = skills = list(enrol(platform, [20, 3]))
    in_flight = another_team(instance)
    ours = build_definitions()
    assert isinstance(evaluate(ours, "start_shards", instance), dg.SkipReason), "their night is not ours"

    run(ours, instance, dg.RunRequest(job_name="active_skills_job", tags=NIGHT))
    assert set(instance.get_dynamic_partitions(name)) == {*skills, *(THEIR_KEYS if name == "skill" else [])}
    shards = evaluate(ours, "start_shards", instance)
    assert isinstance(shards, dg.SensorResult)
    for request in shards.run_requests or []:
        assert request.tags[PARTITIONS_TAG] == name
        run(ours, instance, request)
    with psycopg.connect(platform.url) as connection:
        ledger = connection.execute("SELECT skill_id FROM bkt_pipeline.night_skills ORDER BY 1").fetchall()
    assert [row[0] for row in ledger] == sorted(skills)
    items = evaluate(ours, "nightly_irt", instance)
    assert isinstance(items, dg.SensorResult), items.skip_message
    for request in items.run_requests or []:
        run(ours, instance, request)

    with psycopg.connect(platform.url) as connection:
        connection.execute("UPDATE skills SET active = false WHERE id::text = %s", [first])
    run(ours, instance, dg.RunRequest(job_name="active_skills_job", tags=NIGHT))
    kept = set(skills) - {first}
    assert set(instance.get_dynamic_partitions(name)) == {*kept, *(THEIR_KEYS if name == "skill" else [])}
    assert instance.get_dynamic_partitions("skill")[: len(THEIR_KEYS)] == THEIR_KEYS
    unchanged = [instance.get_run_by_id(one.run_id) for one in in_flight]
    assert [(one.status, one.tags) for one in unchanged] == [(one.status, one.tags) for one in in_flight]


def test_a_partition_that_was_there_before_is_calibrated_as_a_skill_and_never_deleted(
    platform: Platform, instance: dg.DagsterInstance, night: Callable[..., object]
) -> None:
    shared, _ = skills = list(enrol(platform, [3, 3]))
    instance.add_dynamic_partitions("skill", [shared])
    assert set(outcomes(night(platform))) == set(skills)
    with psycopg.connect(platform.url) as connection:
        connection.execute("UPDATE skills SET active = false WHERE id::text = %s", [shared])
    assert set(outcomes(night(platform))) == set(skills) - {shared}
    assert set(instance.get_dynamic_partitions("skill")) == set(skills)


def test_partitions_of_an_earlier_version_are_taken_over(
    platform: Platform, instance: dg.DagsterInstance, night: Callable[..., object]
) -> None:
    kept, retired = enrol(platform, [3, 3])
    night(platform)
    for name in ("skill added by bkt_pipeline", "skill calibrated by bkt_pipeline"):
        for key in instance.get_dynamic_partitions(name):
            instance.delete_dynamic_partition(name, key)
    instance.add_dynamic_partitions("skill", THEIR_KEYS)
    with psycopg.connect(platform.url) as connection:
        connection.execute("UPDATE skills SET active = false WHERE id::text = %s", [retired])
    assert set(outcomes(night(platform))) == {kept}
    assert set(instance.get_dynamic_partitions("skill")) == {kept, *THEIR_KEYS}


# The attributes of a defs.yaml.
TENANTS = {
    "north": """
        key_prefix: north
        database_url_variable: NORTH_URL
        cron: "0 3 * * *"
        estimator: pooled
        source_schema: public
    """,
    "south": """
        key_prefix: [south]
        database_url_variable: SOUTH_URL
        group_name: south
        min_attempts: 10
        items: {update_items: false}
    """,
}


def test_two_tenants_in_one_code_location_have_a_night_each(
    make_platform: Callable[..., Platform], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    platforms = {name: make_platform("bigint") for name in TENANTS}
    skills = {
        name: list(enrol(platforms[name], sizes)) for name, sizes in (("north", [20]), ("south", [3, 20]))
    }
    for name, platform in platforms.items():
        monkeypatch.setenv(f"{name.upper()}_URL", platform.url)
    components = map(BktCalibration.resolve_from_yaml, TENANTS.values())
    both = dg.Definitions.merge(*map(dg.build_defs_for_component, components))
    dg.Definitions.validate_loadable(both)
    schedules = {one.name: one.cron_schedule for one in both.get_repository_def().schedule_defs}
    assert schedules == {"north_nightly_bkt": "0 3 * * *", "south_nightly_bkt": "0 7 * * *"}

    for name, platform in platforms.items():
        installation = Installation.named(key_prefix=name)
        with open_database(f"{name.upper()}_URL") as database:
            night = run_night(database, both, instance, AS_OF, installation=installation)
        assert outcomes(night) == dict.fromkeys(skills[name], "calibrated")
        assert set(stored(platform)) == set(skills[name])
        assert instance.get_dynamic_partitions(f"{name}_skill") == skills[name]
        runs = instance.get_runs(dg.RunsFilter(tags=installation.tags))
        assert {one.job_name for one in runs} == {
            f"{name}_{job}" for job in ("active_skills_job", "calibration", "nightly_irt", "summaries")
        }
        assert {(one.tags[AS_OF_TAG], one.tags[DATABASE_TAG]) for one in runs} == {
            (AS_OF.isoformat(), "platform")
        }
    estimators = {one.tags["bkt/estimator"] for one in instance.get_runs() if "north" in one.job_name}
    assert estimators == {"pooled"}
    assert instance.get_dynamic_partitions("skill") == []


def test_a_tenant_without_its_variable_fails_and_takes_no_other_database(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", platform.url)
    monkeypatch.setenv("BKT_DEMO", "1")
    with pytest.raises(InvalidSettings, match="NORTH_URL is not set"):
        open_database("NORTH_URL")


@pytest.mark.parametrize(
    "names", [{"key_prefix": "a b"}, {"group_name": "a/b"}, {"partitions_name": " "}], ids=str
)
def test_a_name_that_dagster_does_not_take_is_refused(names: dict[str, str]) -> None:
    with pytest.raises(InvalidSettings, match=r"not a name|is empty"):
        build_definitions(**names)


@pytest.mark.slow
def test_the_package_is_light_until_its_component_is_read() -> None:
    program = (
        "import sys, bkt_pipeline; assert 'dagster' not in sys.modules; print(bkt_pipeline.BktCalibration)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "BktCalibration" in ran.stdout, ran.stderr
