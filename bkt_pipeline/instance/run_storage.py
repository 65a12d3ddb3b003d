"""Dagster's run storage on Postgres, which survives the loss of a connection."""

from collections.abc import Mapping

import dagster as dg
from dagster_postgres import PostgresRunStorage
from sqlalchemy import column, delete, table
from sqlalchemy.dialects.postgresql import insert

from bkt_pipeline.instance.lasting import lasting, retried

TAGS = table("run_tags", column("run_id"), column("key"), column("value"))


@lasting(except_for=("add_run", "add_run_tags", "add_historical_run", "add_backfill"))
class LastingRunStorage(PostgresRunStorage):
    """Retries what may be done twice. A run is created once, and its tags are complete.

    Dagster stores a run's tags with the run and in a table of their own, by which runs are found. If the connection is
    lost in between, a second try would take them for stored.
    """

    def add_run(self, dagster_run: dg.DagsterRun) -> dg.DagsterRun:
        add = super().add_run

        def attempt(number: int) -> dg.DagsterRun:
            if number == 1 or not self.has_run(dagster_run.run_id):
                return add(dagster_run)
            self._replace_tags(dagster_run.run_id, dagster_run.tags_for_storage())
            return dagster_run

        return retried(attempt)

    def add_run_tags(self, run_id: str, new_tags: Mapping[str, str]) -> None:
        add = super().add_run_tags

        def attempt(number: int) -> None:
            add(run_id, new_tags)
            if number > 1:
                self._replace_tags(run_id, new_tags)

        retried(attempt)

    def _replace_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        rows = [{"run_id": run_id, "key": name, "value": value} for name, value in tags.items()]
        with self.connect() as connection:
            connection.execute(delete(TAGS).where(TAGS.c.run_id == run_id, TAGS.c.key.in_(list(tags))))
            if rows:
                connection.execute(insert(TAGS), rows)
