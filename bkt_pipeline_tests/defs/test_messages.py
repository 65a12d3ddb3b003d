"""The messages about nights, at a real receiver."""

import datetime as dt
import socket
from collections.abc import Callable, Iterator

import dagster as dg
import psycopg
import pytest

from bkt_pipeline.calibration.labels import LONGEST_LABEL
from bkt_pipeline.cli.main import main
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.alarms import report_if_failed, report_if_late
from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.night import NightRun
from bkt_pipeline.defs.notify import deliver
from bkt_pipeline.defs.notify.message import Message
from bkt_pipeline.defs.tags import PART_TAG, night_tags
from bkt_pipeline_tests.conftest import AS_OF, Platform
from bkt_pipeline_tests.helpers.receiver import Receiver, receiving
from bkt_pipeline_tests.helpers.schools import enrol, refuse, summary

DAY = dt.timedelta(days=1)
FRESHNESS = dg.AssetKey("current_params")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    pytest.importorskip("apprise", reason="the extra notify is not installed")
    with receiving() as found:
        monkeypatch.setenv("BKT_NOTIFY", found.apprise)
        monkeypatch.setenv("BKT_HEARTBEAT", f"http://127.0.0.1:{found.port}/ping-token")
        monkeypatch.setenv("BKT_UI_URL", "https://me:word-token@bkt.example.org/")
        yield found


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.slow
def test_each_night_sends_one_message_and_a_receiver_that_is_down_costs_it_nothing(
    platform: Platform,
    night: Callable[..., NightRun],
    receiver: Receiver,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    first, second, third = enrol(platform, [40, 40, 3])
    with psycopg.connect(platform.url) as connection:
        connection.execute("UPDATE skills SET name = %s WHERE id = %s", ["@all\x1b[31m adding " * 9, first])
    down = f"json://127.0.0.1:{closed_port()}/other-token"
    monkeypatch.setenv("BKT_NOTIFY", f"{receiver.apprise} {down}")
    assert night(platform).not_delivered == (
        "not delivered: receiver 2 of 2 in BKT_NOTIFY (json): it did not accept the message"
    )
    (message,) = receiver.messages
    assert message["type"] == "success"
    assert message["title"] == "bkt_pipeline: night of 2026-01-01: 2 calibrated, 1 skipped"
    assert "3 skills: 2 calibrated, 1 skipped; 498 attempts" in message["message"]
    assert f"skipped, fewer than 50 graded attempts in 30 days: {third}" in message["message"]
    assert message["message"].endswith("https://bkt.example.org/assets/nightly_summary")
    assert receiver.requests == ["/ping-token"]

    # The night after: one skill fails and one moves.
    monkeypatch.setenv("BKT_NOTIFY", receiver.apprise)
    refuse(platform, second)
    with psycopg.connect(platform.url) as connection:
        connection.execute("UPDATE attempts SET is_correct = true WHERE item_id = %s", [first])
        # An error check that does not stop its skill: one attempt has a time in the future.
        connection.execute(
            "INSERT INTO attempts (student_id, item_id, is_correct, created_at) VALUES"
            " (gen_random_uuid(), %s, true, now() + interval '1 day')",
            [first],
        )
    assert night(platform, AS_OF + DAY).not_delivered is None
    body = receiver.messages[-1]["message"]
    assert receiver.messages[-1]["type"] == "failure"
    (failed,) = [line for line in body.splitlines() if line.startswith("failed, ")]
    assert failed.endswith(f": {second}")
    assert "violates check constraint" in failed
    (moved,) = [line for line in body.splitlines() if " → " in line]
    assert moved.startswith("(at)all\\x1b[31m adding")
    assert "…" in moved[: LONGEST_LABEL + 20]
    assert "check no_future_attempts of attempt_window: fails for 1 skill (turned red)" in body
    assert "\x1b" not in body
    assert "token" not in body
    with psycopg.connect(platform.url) as connection:
        students = connection.execute("SELECT DISTINCT student_id::text FROM attempts").fetchall()
    shown = {str(platform.id(number)) for number in (1, 2, 3)}  # the skills, whose ids some students have
    assert not any(student in body for (student,) in students if student not in shown)

    # The same summary again, that of a part of a night, one that a person starts, and a night without answers.
    again = night_tags(AS_OF + DAY)
    for tags in (again, night_tags(AS_OF + DAY * 3 / 2) | {PART_TAG: "true"}, {}):
        job = build_definitions().resolve_job_def("summaries")
        assert job.execute_in_process(instance=instance, tags=tags).success
    assert len(receiver.messages) == 2
    pings, freshest = len(receiver.requests), instance.get_latest_materialization_event(FRESHNESS)
    empty = night(platform, AS_OF + 200 * DAY)
    assert "some_skill_is_calibrated failed" in empty.warning
    assert receiver.titles[2:] == ["bkt_pipeline: the night of 2026-07-20 calibrated nothing"]
    assert "some_skill_is_calibrated failed: read the reasons" in receiver.messages[-1]["message"]
    assert len(receiver.requests) == pings

    # Freshness is that of what was calibrated, although the skipped skills were materialised.
    assert instance.get_latest_materialization_event(FRESHNESS).timestamp == freshest.timestamp
    assert summary(instance)["night"].value == "2026-07-20"
    check = dg.AssetCheckKey(dg.AssetKey("nightly_summary"), "parameters_are_fresh")
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check]
    assert not found.event.dagster_event.event_specific_data.passed

    assert main(["doctor", "--max-age", "99999d"]) == 0
    assert main(["doctor", "--max-age", "26h"]) == 1
    assert main(["doctor", "--max-age", "soon"]) == 2
    out, err = capfd.readouterr()
    assert "ago; allowed are 26h" in err
    assert "token" not in out + err


def test_a_failed_or_late_night_is_reported_at_once_and_once(
    platform: Platform, receiver: Receiver, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Yesterday, as the night of today may still be to come.
    now = (dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).replace(hour=9, minute=1)
    ours = Installation.named()
    with dg.build_sensor_context(instance, sensor_name="late") as context:
        assert "no night is due" in report_if_late(context, ours, now - dt.timedelta(minutes=2)).skip_message
        assert report_if_late(context, ours, now).skip_message == "reported"
        report_if_late(context, ours, now)
        weekend = Installation(cron=f"0 7 * * {now.isoweekday() % 7 + 1}")
        assert "no night is due" in report_if_late(context, weekend, now).skip_message
    assert receiver.titles == [f"bkt_pipeline: the night of {now.date()} did not start by 09:00 UTC"]

    # A night that finds no skills; its retry and the command's own runs stay quiet.
    monkeypatch.setenv("DATABASE_URL", platform.url)
    job = build_definitions().resolve_job_def("active_skills_job")

    def fail(tag: str = "bkt/any", value: str = "", **changed: str) -> str:
        tags = night_tags(now.replace(hour=7)) | changed
        done = job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)
        instance.add_run_tags(done.run_id, {tag: value})
        failures = [event for event in done.all_events if event.is_step_failure]
        return report_if_failed(instance, ours, done.dagster_run, failures)

    assert "the command reports its own failures" in fail("bkt/command", "nightly")
    assert "Dagster retries the run" in fail("dagster/will_retry", "true")
    assert fail() == "reported"
    assert fail() == "reported before"
    assert receiver.titles[1:] == [f"bkt_pipeline: the night of {now.date()} failed"]
    assert "active_skills_job failed: table skills has no active row" in receiver.messages[-1]["message"]
    assert "https://bkt.example.org/runs/" in receiver.messages[-1]["message"]
    assert fail(**{"bkt/as_of": "never"}) == "reported"
    with dg.build_sensor_context(instance) as context:
        assert "has started" in report_if_late(context, ours, now).skip_message


def test_a_command_that_cannot_run_its_night_reports_it(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://one:pass-token@127.0.0.1:{closed_port()}/platform")
    monkeypatch.setenv("BKT_RETRY_SECONDS", "0")
    assert main(["nightly", "--as-of", AS_OF.isoformat()]) == 2
    assert receiver.titles == ["bkt_pipeline: the night of 2026-01-01 failed"]
    assert "the database cannot be used" in receiver.messages[0]["message"]
    assert "token" not in receiver.messages[0]["message"]
    assert main(["nightly", "--as-of", "never"]) == 2
    assert len(receiver.messages) == 1


def test_a_receiver_that_never_answers_is_left_behind(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "SECONDS", 0.5)
    receiver.hold.clear()
    monkeypatch.setenv("BKT_NOTIFY", f"{receiver.apprise} nonsense-token")
    problem = deliver.deliver(Message("title", "body", "failure"), heartbeat=True)
    assert problem == (
        "not delivered: receiver 1 of 2 in BKT_NOTIFY (json): no answer within 0.5 s; "
        "receiver 2 of 2 in BKT_NOTIFY (not a URL): Apprise does not accept its URL"
    )
    assert deliver.unusable_receivers() == {"receiver 2 of 2 in BKT_NOTIFY (not a URL)": deliver.UNKNOWN}
    assert receiver.requests == ["/ping-token"]
