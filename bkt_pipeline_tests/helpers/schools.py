"""Platforms with simulated answers, and the results of nights on them."""

import datetime as dt
from collections.abc import Iterable
from typing import Any

import dagster as dg
import numpy as np
import psycopg
from psycopg import sql

from bkt_pipeline.defs.night import NightRun
from bkt_pipeline.model import AttemptWindow, BktParams
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests.conftest import Platform

PARAMS, WINDOW = dg.AssetKey("skill_bkt_params"), dg.AssetKey("attempt_window")


EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def enrol(platform: Platform, sizes: Iterable[int], lengths: int = 6) -> dict[str, AttemptWindow]:
    """Insert a skill for each size, with that many students; returns the windows that a night must read."""
    windows = {}
    with psycopg.connect(platform.url) as connection:
        for number, n_students in enumerate(sizes, start=1):
            skill = platform.id(number)
            window = simulate(
                BktParams(0.3, 0.15, 0.1, 0.2),
                n_students=n_students,
                seed=number,
                lengths=lengths,
                skill_id=str(skill),
            )
            windows[str(skill)] = window
            connection.execute("INSERT INTO skills (id, active) VALUES (%s, true)", [skill])
            connection.execute("INSERT INTO items VALUES (%s, %s)", [skill, skill])
            insert(connection, platform, skill, window)
    return windows


def insert(connection: psycopg.Connection, platform: Platform, item: Any, window: AttemptWindow) -> None:
    students = np.repeat(np.arange(window.n_students), np.diff(window.offsets))
    statement = "COPY attempts (id, student_id, item_id, is_correct, created_at) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for student, right, micros in zip(students, window.responses, window.answered_at, strict=True):
            moment = moment_of(int(micros), platform)
            copy.write_row((platform.id(next_id()), platform.id(int(student) + 1), item, bool(right), moment))


_ids = iter(range(1, 10**9))


def next_id() -> int:
    return next(_ids)


def moment_of(micros: int, platform: Platform) -> dt.datetime:
    moment = EPOCH + dt.timedelta(microseconds=micros)
    return moment.replace(tzinfo=None) if platform.timestamp_type == "timestamp" else moment


def stored(platform: Platform) -> dict[str, tuple[float, ...]]:
    with psycopg.connect(platform.url) as connection:
        rows = connection.execute(
            "SELECT skill_id::text, p_l0, p_transit, p_slip, p_guess, log_likelihood FROM skill_bkt_params"
        ).fetchall()
    return {row[0]: row[1:] for row in rows}


def outcomes(run: NightRun) -> dict[str, str]:
    return {outcome.skill_id: outcome.outcome for outcome in run.outcomes}


def refuse(platform: Platform, skill: str) -> None:
    """Make a constraint on the platform's table refuse the skill's next row."""
    refusal = "ALTER TABLE skill_bkt_params ADD CONSTRAINT refused CHECK (skill_id <> {}) NOT VALID"
    with psycopg.connect(platform.url) as connection:
        connection.execute(sql.SQL(refusal).format(skill))


def statuses(instance: dg.DagsterInstance, key: dg.AssetKey = PARAMS) -> dict[str, str]:
    found = instance.get_status_by_partition(
        key, instance.get_dynamic_partitions("skill"), dg.DynamicPartitionsDefinition(name="skill")
    )
    return {partition: status.value if status else "MISSING" for partition, status in (found or {}).items()}


def latest(
    instance: dg.DagsterInstance, partition: str, asset: dg.AssetKey = PARAMS
) -> dg.AssetMaterialization:
    (record,) = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[partition]), limit=1
    ).records
    assert record.asset_materialization is not None
    return record.asset_materialization


def checks_of(instance: dg.DagsterInstance, partition: str) -> list[Any]:
    return [
        entry.dagster_event.event_specific_data
        for run in instance.get_runs()
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        if entry.dagster_event.event_specific_data.partition == partition
    ]


def shift(platform: Platform, last: dt.datetime) -> None:
    """Move all attempts in time so that the last one is at `last`."""
    with psycopg.connect(platform.url) as connection:
        connection.execute(
            "UPDATE attempts SET created_at = created_at + (%s - (SELECT max(created_at) FROM attempts))",
            [last],
        )


def summary(instance: dg.DagsterInstance) -> dict[str, dg.MetadataValue]:
    event = instance.get_latest_materialization_event(dg.AssetKey("nightly_summary"))
    assert event is not None
    assert event.asset_materialization is not None
    return dict(event.asset_materialization.metadata)
