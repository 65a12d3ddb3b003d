"""The names of skills in the command, the summary and the pictures, and the numbers that these must agree on."""

import datetime as dt
import io
from collections.abc import Callable

import dagster as dg
import psycopg
import pytest
from rich.console import Console

from bkt_pipeline.cli import tables
from bkt_pipeline.defs.night import NightFailed, NightRun
from bkt_pipeline.defs.tags import PART_TAG
from bkt_pipeline_tests.conftest import AS_OF, Platform
from bkt_pipeline_tests.helpers.schools import enrol, latest, refuse, summary

HOSTILE = "[bold]a\x1b[31m $x^{ ](http://example.org)\nb"
Run = Callable[..., NightRun]


def shown(night: NightRun, width: int) -> str:
    """What the command prints."""
    console = Console(width=width, record=True, file=io.StringIO())
    table, lines = tables.night_table(night.outcomes, night.result["calibrated_skills"], night.names, width)
    console.print(table)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    return console.export_text()


@pytest.mark.pictures
def test_names_are_shown_everywhere_and_do_no_harm(
    platform: Platform, night: Run, instance: dg.DagsterInstance
) -> None:
    keys = list(enrol(platform, [40, 40, 40, 2, 3]))
    with psycopg.connect(platform.url) as connection:
        for key, name in zip(keys, [HOSTILE, "Adding", "Adding", "分数", None], strict=True):
            connection.execute("UPDATE skills SET name = %s WHERE id = %s", [name, key])
    night(platform)
    refuse(platform, keys[2])
    with psycopg.connect(platform.url) as connection:
        connection.execute("UPDATE attempts SET is_correct = true WHERE item_id = %s", [keys[0]])
    done = night(platform, AS_OF + dt.timedelta(days=1))

    narrow, wide = shown(done, 80), shown(done, 160)
    assert max(map(len, narrow.splitlines()[:6])) <= 80
    assert all(len(line.split()) > 1 for line in narrow.splitlines()[:6]), "a line of the table was folded"
    for text in (narrow, wide):
        assert "\x1b" not in text
        assert "[bold]a\\x1b" in text
        assert "fewer than 50 graded attempts in 30 days: 分数, " in text
        assert "failed, " in text
    assert all(key in wide for key in keys)
    assert wide.splitlines()[0].split()[:3] == ["skill", "name", "attempts"]

    page = summary(instance)
    agree(platform, done, page)
    (moved,) = [row.data for row in page["largest_moves"].records if row.data["skill"] == keys[0]]
    assert moved["name"] == "[bold]a\\x1b[31m $x^{ ](http://example.org) b"
    assert {row.data["skill"]: row.data["name"] for row in page["skipped_or_failed"].records}[keys[4]] == ""
    assert page["overview"].md_str.startswith("![")

    # The page of one skill, from a part of a night, which sends no message.
    night(platform, AS_OF + dt.timedelta(days=1), [keys[0]])
    assert [PART_TAG in run.tags for run in instance.get_runs(limit=4)] == [True, True, True, False]
    metadata = latest(instance, keys[0]).metadata
    assert metadata["name"].value == moved["name"]
    alt = metadata["picture"].md_str.partition("(data:")[0]
    assert "](http" not in alt.removesuffix("](").replace("\\]\\(", "")


def agree(platform: Platform, done: NightRun, page: dict[str, dg.MetadataValue]) -> None:
    """The command, the summary and the ledger show the same numbers."""
    with psycopg.connect(platform.url) as connection:
        skills, attempts, calibrated, failed, likelihood = connection.execute(
            "SELECT count(*), sum(attempts), count(*) FILTER (WHERE outcome = 'calibrated'),"
            " count(*) FILTER (WHERE outcome = 'failed'),"
            " sum(log_likelihood) FILTER (WHERE outcome = 'calibrated')"
            " FROM bkt_pipeline.night_skills WHERE night = %s",
            [page["night"].value],
        ).fetchone()
    assert (skills, calibrated, failed) == (5, 2, 1)
    assert tables.night_totals(done.outcomes, 0) == (
        f"5 skills: 2 calibrated, 2 skipped, 1 failed; {attempts:,} attempts, log-likelihood {likelihood:,.1f}, 0.0 s"
    )
    shown = [page[name].value for name in ("skills", "calibrated", "failed", "attempts")]
    assert shown == [skills, calibrated, failed, attempts]
    assert page["log_likelihood"].value == pytest.approx(likelihood)
    fits = done.result["calibrated_skills"].values()
    assert sum(fit["log_likelihood"] for fit in fits) == pytest.approx(likelihood)


def test_a_setting_names_the_column_and_a_platform_without_names_shows_ids(
    platform: Platform, night: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = enrol(platform, [20])
    with psycopg.connect(platform.url) as connection:
        connection.execute("ALTER TABLE skills ADD label text DEFAULT 'Adding'")
    monkeypatch.setenv("BKT_SKILL_NAME", "label")
    assert "Adding" in shown(night(platform), 120)
    monkeypatch.setenv("BKT_SKILL_NAME", "labels")
    with pytest.raises(NightFailed, match="BKT_SKILL_NAME is 'labels', and skills has no such column"):
        night(platform)
    with psycopg.connect(platform.url) as connection:
        connection.execute("ALTER TABLE skills DROP name")
    monkeypatch.delenv("BKT_SKILL_NAME")
    (row,) = [line for line in shown(night(platform), 80).splitlines() if "calibrated" in line]
    assert len(row) <= 80
    assert row.startswith(f"{key[:12]}")
    assert f"…{key[-7:]} " in row
