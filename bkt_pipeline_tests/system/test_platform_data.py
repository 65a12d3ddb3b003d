"""What real platforms hold beside good answers: each kind costs at most itself, and a person learns of it."""

import datetime as dt
from collections.abc import Callable

import dagster as dg
import psycopg
import pytest

from bkt_pipeline.db.schema import PARAMETERS
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.night import NightRun
from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline_tests.conftest import AS_OF, Platform
from bkt_pipeline_tests.helpers.schools import checks_of, enrol, outcomes, shift, stored, summary

RunNight = Callable[..., NightRun]
NEVER = ("NULL", "'infinity'", "'-infinity'", "'4000-01-01'")


def change(platform: Platform, statements: str) -> None:
    with psycopg.connect(platform.url) as connection:
        connection.execute(statements.encode())


def test_seeded_rows_that_no_calibration_made_cost_nothing(
    make_platform: Callable[..., Platform], night: RunNight
) -> None:
    platform = make_platform("bigint")
    enrol(platform, [40] * len(NEVER) + [1] * len(NEVER))
    rows = ", ".join(
        f"({number}, 0.3, 0.1, 0.1, 0.2, NULL, {at})" for number, at in enumerate(NEVER * 2, start=1)
    )
    columns = ", ".join(f"{name} float8" for name in (*PARAMETERS, "log_likelihood"))
    change(
        platform,
        f"CREATE TABLE skill_bkt_params (skill_id bigint PRIMARY KEY, {columns}, calibrated_at timestamptz);"  # noqa: S608
        f"INSERT INTO skill_bkt_params VALUES {rows}",
    )
    run = night(platform)
    size = len(NEVER)
    assert outcomes(run) == {str(n): "calibrated" if n <= size else "skipped" for n in range(1, 2 * size + 1)}
    assert run.failed_runs == {}
    assert not run.any_failed
    now = stored(platform)
    assert all(now[str(n)][-1] is not None for n in range(1, size + 1))
    assert all(now[str(n)] == (0.3, 0.1, 0.1, 0.2, None) for n in range(size + 1, 2 * size + 1))


def test_a_night_in_the_future_is_refused_and_the_next_one_calibrates(
    platform: Platform, night: RunNight
) -> None:
    enrol(platform, [40])
    now = dt.datetime.now(dt.UTC)
    shift(platform, now - dt.timedelta(hours=1))
    with pytest.raises(InvalidSettings, match="is in the future"):
        night(platform, now + dt.timedelta(days=365))
    assert list(outcomes(night(platform, now)).values()) == ["calibrated"]


def test_answers_older_than_the_window_come_with_the_as_of_that_finds_them(
    platform: Platform, night: RunNight
) -> None:
    enrol(platform, [40])
    shift(platform, dt.datetime(2025, 6, 3, 18, 30, tzinfo=dt.UTC))
    change(platform, "INSERT INTO skills (active) VALUES (false)")
    empty = night(platform)
    assert list(outcomes(empty).values()) == ["skipped"]
    assert empty.warning is not None
    assert "the newest graded answer is from 2025-06-03" in empty.warning
    assert empty.warning.endswith("--as-of 2025-06-04")
    found = night(platform, dt.datetime(2025, 6, 4, tzinfo=dt.UTC))
    assert list(outcomes(found).values()) == ["calibrated"]
    assert found.warning is None


def test_an_empty_window_among_full_ones_is_no_warning(platform: Platform, night: RunNight) -> None:
    enrol(platform, [40, 0])
    run = night(platform)
    assert sorted(outcomes(run).values()) == ["calibrated", "skipped"]
    assert run.warning is None
    assert run.left_out is None


def test_the_summary_counts_what_the_windows_leave_out(
    platform: Platform, night: RunNight, instance: dg.DagsterInstance
) -> None:
    enrol(platform, [40, 40, 40, 40], lengths=6)
    gone, unskilled, repeated, unordered = (str(platform.id(number)) for number in range(1, 5))
    change(
        platform,
        f"""
        ALTER TABLE attempts DROP CONSTRAINT attempts_item_id_fkey, ALTER student_id DROP NOT NULL;
        ALTER TABLE items ALTER skill_id DROP NOT NULL;
        DELETE FROM items WHERE id = '{gone}';
        UPDATE items SET skill_id = NULL WHERE id = '{unskilled}';
        INSERT INTO attempts (student_id, item_id, is_correct, created_at)
            SELECT student_id, item_id, is_correct, created_at FROM attempts WHERE item_id = '{repeated}' LIMIT 7;
        INSERT INTO attempts (item_id, is_correct, created_at)
            SELECT item_id, true, created_at FROM attempts WHERE item_id = '{repeated}' LIMIT 3;
        UPDATE attempts SET is_correct = NULL
            WHERE id IN (SELECT id FROM attempts WHERE item_id = '{unordered}' ORDER BY id LIMIT 5);
        UPDATE attempts SET created_at = '2025-12-30' WHERE item_id = '{unordered}';
        """,  # noqa: S608
    )
    with psycopg.connect(platform.url) as connection:
        tied = connection.execute(
            "SELECT sum(n)::int FROM (SELECT count(*) AS n FROM attempts WHERE item_id::text = %s AND is_correct IS NOT NULL"
            " GROUP BY student_id HAVING count(DISTINCT is_correct) = 2) AS of_student",
            [unordered],
        ).fetchone()
        repeats = connection.execute(
            "SELECT sum(n - 1)::int FROM (SELECT count(*) AS n FROM attempts WHERE item_id::text = ANY (%s)"
            " AND is_correct IS NOT NULL AND student_id IS NOT NULL"
            " GROUP BY item_id, student_id, is_correct, created_at) AS alike",
            [[repeated, unordered]],
        ).fetchone()
    for _ in range(2):  # a night that is run again is not counted twice
        run = night(platform)
        shown = {name: value.value for name, value in summary(instance).items()}
        assert (shown["attempts_without_item"], shown["attempts_without_skill"]) == (240, 240)
        assert (shown["without_student"], shown["ungraded"]) == (3, 5)
        assert (shown["repeated_attempts"],) == repeats
        assert (shown["answers_of_unknown_order"],) == tied
        (order,) = [
            one for one in checks_of(instance, unordered) if one.check_name == "attempt_order_is_known"
        ][-1:]
        assert (order.passed, order.severity) == (False, dg.AssetCheckSeverity.WARN)
        assert run.left_out is not None
        assert (
            "240 left out because items has no row of their item_id, 240 left out because their item"
            in run.left_out
        )


@pytest.mark.parametrize("unfinished", [False, True])
def test_a_partition_that_is_no_skill_fails_alone(
    make_platform: Callable[..., Platform], night: RunNight, instance: dg.DagsterInstance, unfinished: bool
) -> None:
    platform = make_platform("bigint")
    enrol(platform, [40, 40])
    shift(platform, dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    night(platform, dt.datetime.now(dt.UTC))
    instance.add_dynamic_partitions("skill", ["abc"])
    job = build_definitions().resolve_job_def("calibration")
    if unfinished:
        instance.create_run_for_job(job, tags={"dagster/partition": "1"}, status=dg.DagsterRunStatus.STARTED)
    else:
        keys = instance.get_dynamic_partitions("skill")
        tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        done = job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)
        assert not done.success
        with psycopg.connect(platform.url) as connection:
            rows = connection.execute(
                "SELECT skill_id, outcome, reason FROM bkt_pipeline.night_skills WHERE run_id = %s ORDER BY 1",
                [done.run_id],
            ).fetchall()
        assert [row[:2] for row in rows] == [("1", "calibrated"), ("2", "calibrated"), ("abc", "failed")]
        assert "abc" not in stored(platform)
    run = night(platform, dt.datetime.now(dt.UTC))
    assert outcomes(run) == {"1": "calibrated", "2": "calibrated"}
    assert "abc" in instance.get_dynamic_partitions("skill"), "we delete only the partitions that we added"


@pytest.mark.parametrize("students", [40, 1])
def test_rows_that_cannot_be_read_cost_neither_the_other_skills_nor_the_report(
    make_platform: Callable[..., Platform], night: RunNight, instance: dg.DagsterInstance, students: int
) -> None:
    platform = make_platform("bigint")
    enrol(platform, [students, 40])
    change(
        platform,
        "ALTER TABLE attempts RENAME TO answers; CREATE VIEW attempts AS SELECT id, student_id, item_id, is_correct,"
        " created_at + (1 / (item_id - 2)) * interval '0 s' AS created_at FROM answers",
    )
    run = night(platform)
    assert outcomes(run) == {"1": "calibrated" if students == 40 else "skipped", "2": "failed"}
    counted = summary(instance)["attempts_without_item"].value
    assert str(counted).startswith("could not be counted: division by zero")
    if students == 1:
        assert run.warning is not None
        assert "some_skill_is_calibrated failed" in run.warning


def test_odd_rows_of_earlier_nights_cost_no_skill_its_night(
    platform: Platform, night: RunNight, instance: dg.DagsterInstance
) -> None:
    skills = list(enrol(platform, [40, 40, 40, 40]))
    assert night(platform).result["count"] == 4
    odd = (
        "p_slip = 0.9",
        "log_likelihood = '-infinity'",
        "moment_mean = '{1}'",
        "moment_covariance[1] = 'NaN'",
    )
    for skill, value in zip(skills, odd, strict=True):
        change(platform, f"UPDATE bkt_pipeline.skill_fits SET {value} WHERE skill_id = '{skill}'")  # noqa: S608
    run = night(platform, AS_OF + dt.timedelta(days=1))
    assert outcomes(run) == dict.fromkeys(skills, "calibrated")
    assert run.failed_runs == {}
    assert summary(instance)["calibrated"].value == 4
