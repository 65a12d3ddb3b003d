"""The page of each skill, the morning's page, and what a run's log says meanwhile."""

import datetime as dt
import math
import re
from collections.abc import Callable
from urllib.parse import unquote
from xml.etree import ElementTree

import dagster as dg
import numpy as np
import psycopg
import pytest

from bkt_pipeline.calibration.baseline import History
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.skills import SkillVerdict
from bkt_pipeline.db.nights import SkillNight, largest_moves
from bkt_pipeline.defs.assets import skills as assets
from bkt_pipeline.defs.metadata.night import night_metadata, worst_fits
from bkt_pipeline.defs.metadata.night_figures import evidence_picture, item_map, moves_picture
from bkt_pipeline.defs.metadata.skill_page import skill_page
from bkt_pipeline.defs.metadata.svg import Axes, Picture
from bkt_pipeline.defs.reporting import MOST_LINES, Report
from bkt_pipeline.model import BktParams, calibrate
from bkt_pipeline.model.bkt.curves import reliability
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests.conftest import AS_OF, Platform
from bkt_pipeline_tests.helpers.schools import enrol, latest, refuse, summary

TRUTH = BktParams(0.3, 0.15, 0.1, 0.2)
HOSTILE = "a <b>&\"'$ ](http://x)\x1b[31m\n\x00 分数 " + "数" * 100
MOST_CHARACTERS = 15_000
SECTIONS = ("Night of", "What to do", "Largest moves", "Predicted against", "Items", "Age of")


def drawn(markdown: str | None) -> list[ElementTree.Element]:
    """The pictures in the Markdown; each must be a URI that Markdown keeps as it is, and valid SVG."""
    assert markdown is not None
    uris = re.findall(r"!\[(?:[^\]\\]|\\.)+\]\(data:image/svg\+xml,([^)]*)\)", markdown)
    assert len(uris) == markdown.count("data:image")
    assert all(re.fullmatch(r"[A-Za-z0-9%'=:/;,.+*?!@~$_-]+", uri) for uri in uris)
    return [ElementTree.fromstring(unquote(uri)) for uri in uris]


def texts(picture: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in picture.iter("{http://www.w3.org/2000/svg}text")]


def nights_before(n: int) -> History:
    estimates = np.random.default_rng(1).uniform(0.0, 0.5, (n, 4, 3)).astype(np.float32)
    estimates[n // 2 :: 7] = math.nan
    days = tuple(AS_OF.date() - dt.timedelta(days=day + 1) for day in range(n))
    return History((-0.5,) * n, TRUTH, days, estimates)


@pytest.mark.parametrize(("students", "lengths", "nights"), [(600, 40, 30), (50, 1, 0), (5, 60, 1)])
def test_a_skill_has_a_small_valid_page_whatever_it_is_called(
    students: int, lengths: int, nights: int
) -> None:
    window = simulate(TRUTH, n_students=students, seed=1, lengths=lengths)
    fit = calibrate(window, scored=True, polished=True)
    verdict = SkillVerdict("s", Outcome.CALIBRATED, window, fit)
    page = skill_page(verdict, nights_before(nights) if nights else None, HOSTILE, AS_OF)["page"].value
    (picture,) = drawn(page)
    assert 3_000 < len(page) < MOST_CHARACTERS
    shown = texts(picture)
    assert shown[0].startswith("a <b>&\"'$ ](http://x)\\x1b[31m \\x00 分数")
    assert f"calibrated in the night of 2026-01-01, {window.n_attempts:,} answers of" in " ".join(shown)
    assert "\x1b" not in page
    assert "\n" not in page
    assert "nan" not in unquote(page)


def test_a_page_never_shows_the_answers_of_a_few_students() -> None:
    window = simulate(TRUTH, n_students=4, seed=1, lengths=30)
    (picture,) = drawn(
        skill_page(SkillVerdict("s", Outcome.SKIPPED, window), None, "s", AS_OF)["page"].md_str
    )
    assert "fewer than 5 students" in texts(picture)
    blue = [path for path in picture.iter("{http://www.w3.org/2000/svg}path") if "0072b2" in str(path.attrib)]
    assert blue == []


def test_a_skill_without_answers_has_a_page_only_of_its_earlier_nights() -> None:
    verdict = SkillVerdict("s", Outcome.SKIPPED, None)
    assert skill_page(verdict, None, "s", AS_OF) == {}
    (picture,) = drawn(skill_page(verdict, nights_before(3), "s", AS_OF)["page"].md_str)
    assert "last 3 nights with answers" in texts(picture)


def test_missing_values_are_gaps_and_values_outside_are_at_the_edge() -> None:
    def paths(ys: list[float]) -> list[str]:
        picture = Picture(100, 100, "x")
        axes = Axes(picture, 0, 0, 100, 100, (0, 4), (0, 1))
        axes.line(range(len(ys)), ys, "red")
        axes.band(range(len(ys)), ys, ys, "red")
        axes.dots(range(len(ys)), ys, "red")
        axes.whiskers(range(len(ys)), ys, ys, "red")
        found = ElementTree.fromstring(picture.svg).iter("{http://www.w3.org/2000/svg}path")
        return [path.attrib["d"] for path in found]

    assert paths([math.nan] * 3) == []
    line, band, dots, whiskers = paths([0.5, math.nan, 2.0, -math.inf])
    assert (line, dots) == ("M0,50M50,0 75,100", "M0,50h0M50,0h0M75,100h0")
    assert band.startswith("M0,50 0,50ZM50,0")
    assert whiskers.startswith("M0,50V50")


def skill(number: int, now: float | None, before: float | None, outcome: str = "calibrated") -> SkillNight:
    def params(slip: float | None) -> BktParams | None:
        return None if slip is None else BktParams(0.3, 0.1, slip, 0.2, -50.0 - number)

    return SkillNight(f"skill-{number}", Outcome(outcome), None, 100, 20, params(now), params(before))


def test_largest_moves_and_worst_fits_are_sorted() -> None:
    skills = [skill(n, 0.1, 0.1 + 0.01 * n) for n in range(15)]
    skills += [skill(20, 0.3, None), skill(21, None, 0.2, "skipped")]
    assert [one.skill_id for one in largest_moves(skills)] == [f"skill-{n}" for n in range(14, 4, -1)]
    assert [one.skill_id for one in worst_fits(skills)][:2] == ["skill-20", "skill-14"]
    shown = night_metadata(dt.date(2026, 1, 1), skills)
    assert (shown["calibrated"], shown["skipped"], shown["failed"]) == (16, 1, 0)
    assert shown["largest_moves"].records[0].data["p_slip"] == "0.24 → 0.1"


def test_the_morning_pictures_stay_small_however_large_the_school_is() -> None:
    rng = np.random.default_rng(1)
    points = list(
        zip(rng.uniform(-5, 5, 20_000).tolist(), rng.uniform(0.25, 4, 20_000).tolist(), strict=True)
    )
    moves = [skill(n, 0.1, 0.1 + 0.01 * n) for n in range(15, 0, -1)]
    found = reliability(rng.integers(0, 2, 10**5).astype(np.uint8), rng.uniform(0, 1, 10**5))
    gains = dict.fromkeys(("grid", "polished", "pooled", "default", "constant"), (12.3, math.nan))
    for markdown in (
        item_map({"calibrated": points, "provisional": points}),
        moves_picture(moves, {one.skill_id: HOSTILE for one in moves}),
        evidence_picture(found, gains, "pooled", 1000),
    ):
        assert len(drawn(markdown)) == 1
        assert len(markdown) < 45_000


@pytest.mark.parametrize(("total", "batch"), [(47, 200), (1000, 200), (100_000, 200)])
def test_a_run_logs_its_progress_at_most_twenty_times(total: int, batch: int) -> None:
    lines: list[str] = []

    class Context:
        class log:
            @staticmethod
            def info(form: str, *values: object) -> None:
                lines.append(form % values)

    report = Report[SkillVerdict](
        Context, (), lambda _: {}, total=total, what="", low_data_event="", rehearsal=True
    )
    for start in range(0, total, batch):
        list(report.batch([SkillVerdict("s", Outcome.CALIBRATED)] * min(batch, total - start)))
    assert len(lines) == min(math.ceil(total / batch), MOST_LINES)
    assert lines[-1] == f"{total:,} of {total:,} skills: {total:,} calibrated"


def test_a_night_ends_with_a_page_of_each_skill_and_one_of_all(
    platform: Platform,
    night: Callable[..., object],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assets, "BATCH_SIZE", 2)
    keys = list(enrol(platform, [40, 40, 40, 2]))
    with psycopg.connect(platform.url) as connection:
        connection.execute("UPDATE skills SET name = 'Adding <&' WHERE id = %s", [keys[0]])
    night(platform)
    assert "Nothing: no skill failed, and no check is red." in summary(instance)["page"].value
    with psycopg.connect(platform.url) as connection:
        connection.execute("UPDATE attempts SET is_correct = true WHERE item_id = %s", [keys[0]])
    refuse(platform, keys[1])
    night(platform, AS_OF + dt.timedelta(days=1))

    # Each skill that did not fail has its page, with the night before in it.
    for key in (keys[0], keys[2], keys[3]):
        page = latest(instance, key).metadata["page"].value
        assert len(page) < MOST_CHARACTERS
        (picture,) = drawn(page)
        assert "last 2 nights with answers" in texts(picture) or key == keys[3]
    assert texts(drawn(latest(instance, keys[0]).metadata["page"].value)[0])[0] == "Adding <&"

    # The run's log says how far it is, in order.
    (run,) = instance.get_runs(dg.RunsFilter(job_name="calibration"), limit=1)
    logged = [entry.user_message for entry in instance.all_logs(run.run_id) if not entry.dagster_event]
    progress = [line for line in logged if " of 4 skills" in line]
    assert progress[0] == "read the windows of 4 of 4 skills"
    assert progress[1].startswith("2 of 4 skills: ")
    assert progress[2:] == ["4 of 4 skills: 2 calibrated, 1 skipped, 1 failed"]

    # The morning's page: every section, with the ledger's numbers.
    page = summary(instance)["page"].value
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    assert [section.startswith(title) for section, title in zip(sections, SECTIONS, strict=True)] == [
        True
    ] * 6
    outcomes, to_do, moves, evidence, items, ages = sections
    with psycopg.connect(platform.url) as connection:
        became = connection.execute(
            "SELECT outcome, count(*) FROM bkt_pipeline.night_skills WHERE night = '2026-01-02' GROUP BY 1"
        ).fetchall()
        held_out, right = connection.execute(
            "SELECT sum(held_out_attempts), sum((SELECT sum(n) FROM unnest(held_out_bins[11:20]) n))"
            " FROM bkt_pipeline.skill_fits JOIN bkt_pipeline.night_skills USING (night, skill_id)"
            " WHERE night = '2026-01-02' AND outcome = 'calibrated'"
        ).fetchone()
        of_source = connection.execute(
            "SELECT source, count(*) FROM bkt_pipeline.current_params GROUP BY source"
        ).fetchall()
        students = connection.execute("SELECT DISTINCT student_id::text FROM attempts").fetchall()
    assert len(became) == 3
    for outcome, count in became:
        assert f"| {outcome} | {count} |" in outcomes
    assert "Nothing" not in to_do
    assert "- failed, it was not stored" in to_do.replace("\\", "")
    assert "fewer than 50 graded attempts" in to_do
    assert " other parameters than before; all are drawn." in moves
    assert "Adding <&" in texts(drawn(moves)[0])
    assert 0 < right <= held_out
    assert f"{held_out} answers of 2 skills" in " ".join(texts(drawn(evidence)[0]))
    assert items.startswith("Items\n\nNo items were calibrated")
    for source, count in of_source:
        (row,) = re.findall(rf"^\| {source} \| (.*) \|$", ages, re.MULTILINE)
        assert sum(int(cell) for cell in row.split(" | ")) == count
    everything = page + "".join(str(latest(instance, key).metadata) for key in (keys[0], keys[2], keys[3]))
    # In this school a skill and a student may have the same id.
    assert [student for (student,) in students if student not in keys and student in everything] == []
