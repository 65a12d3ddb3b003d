import dagster as dg
import pytest

from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.schedules import deadline


def test_dagster_can_load_the_definitions() -> None:
    dg.Definitions.validate_loadable(build_definitions())


def test_the_graph_has_the_documented_assets() -> None:
    graph = build_definitions().resolve_asset_graph()
    assert graph.get(dg.AssetKey("skill_bkt_params")).parent_keys == {dg.AssetKey("attempt_window")}
    assert dg.AssetKey("active_skills") in graph.get(dg.AssetKey("attempt_window")).parent_keys


def test_only_the_calibrated_parameters_must_be_fresh() -> None:
    graph = build_definitions().resolve_asset_graph()
    assert [n.key.to_user_string() for n in graph.asset_nodes if n.freshness_policy] == ["current_params"]


def test_the_schedule_starts_the_night_at_seven_utc() -> None:
    schedule = build_definitions().resolve_schedule_def("nightly_bkt")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 7 * * *", "UTC")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 7 * * *", "0 9 * * *"),
        ("30 3 * * 1-5", "30 5 * * 1-5"),
        ("0 23 * * *", None),
        ("0 */6 * * *", None),
    ],
)
def test_the_deadline_follows_the_schedule(cron: str, expected: str | None) -> None:
    policy = deadline(Installation(cron=cron))
    assert getattr(policy, "deadline_cron", None) == expected
