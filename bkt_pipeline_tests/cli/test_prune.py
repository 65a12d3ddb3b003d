"""What `prune` deletes in Dagster; test_rollback.py has what it keeps in the platform's database."""

import datetime as dt
import os
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from bkt_pipeline.cli.main import main
from bkt_pipeline.defs.tags import night_tags
from bkt_pipeline.settings import settings
from bkt_pipeline_tests.conftest import AS_OF, Platform
from bkt_pipeline_tests.helpers.schools import enrol

# Of these tables, each row belongs to one run.
OF_RUNS = ("runs", "run_tags", "event_logs", "asset_check_executions")


@dg.asset
def theirs() -> int:
    return 1


def runs_with_rows() -> dict[str, set[str]]:
    url = settings().dagster_postgres_url
    assert url is not None
    with psycopg.connect(url.get_secret_value()) as connection:
        return {
            table: {
                run_id
                for (run_id,) in connection.execute(f"SELECT DISTINCT run_id FROM {table}")  # noqa: S608
            }
            for table in OF_RUNS
        }


def test_the_runs_of_old_nights_are_deleted_with_their_events_and_no_other_runs(
    platform: Platform,
    instance: dg.DagsterInstance,
    night,
    capfd: pytest.CaptureFixture[str],
) -> None:
    enrol(platform, [20, 3])
    old, new = AS_OF - dt.timedelta(days=1), AS_OF
    # Another team's run, with the tags of our old night.
    job = dg.Definitions(assets=[theirs]).resolve_implicit_global_asset_job_def()
    other = job.execute_in_process(instance=instance, tags=night_tags(old)).run_id
    for as_of in (old, new):
        night(platform, as_of)
    kept = {run.run_id for run in instance.get_runs(dg.RunsFilter(tags=night_tags(new)))}
    deleted = {run.run_id for run in instance.get_runs()} - kept - {other}
    assert len(kept) == len(deleted) == 3
    before = runs_with_rows()
    # On dagster-postgres's own storage, which would keep the evaluations.
    url = instance.event_log_storage.postgres_url
    Path(os.environ["DAGSTER_HOME"], "dagster.yaml").write_text(
        f"storage:\n  postgres:\n    postgres_url: {url}\n"
    )
    assert main(["prune", "--nights", "1"]) == 0
    assert "deleted 3 runs of Dagster" in capfd.readouterr().out
    after = runs_with_rows()
    assert {run.run_id for run in instance.get_runs()} == {*kept, other}
    assert after == {table: runs - deleted for table, runs in before.items()}
    assert main(["prune", "--nights", "1"]) == 0
