import dagster as dg

from bkt_pipeline.definitions import build_definitions


def test_dagster_accepts_all_of_it() -> None:
    dg.Definitions.validate_loadable(build_definitions())


def test_the_graph_is_the_promised_one() -> None:
    graph = build_definitions().resolve_asset_graph()
    assert graph.get(dg.AssetKey("skill_bkt_params")).parent_keys == {dg.AssetKey("attempt_window")}
    assert dg.AssetKey("active_skills") in graph.get(dg.AssetKey("attempt_window")).parent_keys


def test_the_night_starts_by_itself_at_seven() -> None:
    schedule = build_definitions().resolve_schedule_def("nightly_bkt")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 7 * * *", "UTC")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
