import datetime as dt

import dagster as dg

from bkt_pipeline.definitions import build_definitions


def test_dagster_can_load_the_definitions() -> None:
    dg.Definitions.validate_loadable(build_definitions())


def test_the_graph_has_the_documented_assets() -> None:
    graph = build_definitions().resolve_asset_graph()
    assert graph.get(dg.AssetKey("skill_bkt_params")).parent_keys == {dg.AssetKey("attempt_window")}
    assert dg.AssetKey("active_skills") in graph.get(dg.AssetKey("attempt_window")).parent_keys


def test_only_the_calibrated_parameters_must_be_fresh_two_hours_after_the_schedule() -> None:
    graph = build_definitions().resolve_asset_graph()
    policies = {node.key.to_user_string(): node.freshness_policy for node in graph.asset_nodes}
    assert [name for name, policy in policies.items() if policy] == ["current_params"]
    policy = policies["current_params"]
    assert (policy.deadline_cron, policy.timezone) == ("0 9 * * *", "UTC")
    assert policy.lower_bound_delta == dt.timedelta(hours=2)


def test_the_schedule_starts_the_night_at_seven_utc() -> None:
    schedule = build_definitions().resolve_schedule_def("nightly_bkt")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 7 * * *", "UTC")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
