"""The night's summary and the pictures."""

import base64
import datetime as dt
import struct

import dagster as dg
import numpy as np
import psycopg
import pytest

from bkt_pipeline.db.nights import SkillNight, largest_moves
from bkt_pipeline.defs.metadata import figures as pictures
from bkt_pipeline.defs.metadata.figures import learning_curve, night_picture, skill_picture
from bkt_pipeline.defs.metadata.night import night_metadata, worst_fits
from bkt_pipeline.model import BktParams, calibrate, log_likelihood
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests.conftest import AS_OF, Platform
from bkt_pipeline_tests.helpers.schools import enrol, latest, summary

TRUTH = BktParams(0.3, 0.15, 0.1, 0.2)


def png_of(shown: object) -> bytes:
    assert isinstance(shown, dg.MarkdownMetadataValue)
    assert shown.md_str is not None
    picture = base64.b64decode(shown.md_str.partition("base64,")[2].removesuffix(")"))
    assert picture.startswith(b"\x89PNG")
    return picture


def skill(number: int, now: float | None, before: float | None, outcome: str = "calibrated") -> SkillNight:
    def params(slip: float | None) -> BktParams | None:
        return None if slip is None else BktParams(0.3, 0.1, slip, 0.2, -50.0 - number)

    return SkillNight(f"skill-{number}", outcome, None, 100, 20, params(now), params(before))


def test_the_picture_of_a_skill_is_small() -> None:
    window = simulate(TRUTH, n_students=3000, seed=1, skill_id="a-skill-with-a-rather-long-name-to-be-drawn")
    picture = png_of(skill_picture(window, calibrate(window)))
    assert 2_000 < len(picture) < 15_000
    assert struct.unpack(">II", picture[16:24]) == (560, 216)


@pytest.mark.parametrize(("students", "lengths"), [(1, 1), (2, 60), (50, 1)])
def test_a_skill_with_little_data_is_drawn(students: int, lengths: int) -> None:
    window = simulate(TRUTH, n_students=students, seed=1, lengths=lengths)
    png_of(skill_picture(window, calibrate(window)))


def test_the_learning_curve_is_by_opportunity() -> None:
    window = simulate(TRUTH, n_students=400, seed=1)
    reached, observed, band, predicted = learning_curve(window, TRUTH)
    assert reached[0] == 400
    assert observed[0] == pytest.approx(np.mean(window.responses[window.offsets[:-1]]))
    assert predicted[0] == pytest.approx(0.3 * 0.9 + 0.7 * 0.2)
    assert (band[0] <= observed).all()
    assert (observed <= band[1]).all()
    assert log_likelihood(window, TRUTH) < 0


def test_without_matplotlib_a_message_replaces_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    window = simulate(TRUTH, n_students=40, seed=1)
    assert skill_picture(window, calibrate(window)) == pictures.MISSING
    assert night_picture([skill(1, 0.1, 0.2)], []) == pictures.MISSING


def test_largest_moves_and_worst_fits_are_sorted() -> None:
    skills = [skill(n, 0.1, 0.1 + 0.01 * n) for n in range(15)]
    skills += [skill(20, 0.3, None), skill(21, None, 0.2, "skipped")]
    assert [one.skill_id for one in largest_moves(skills)] == [f"skill-{n}" for n in range(14, 4, -1)]
    assert [one.skill_id for one in worst_fits(skills)][:2] == ["skill-20", "skill-14"]
    shown = night_metadata(dt.date(2026, 1, 1), skills)
    assert (shown["calibrated"], shown["skipped"], shown["failed"]) == (16, 1, 0)
    assert shown["largest_moves"].records[0].data["p_slip"] == "0.24 → 0.1"
    assert len(png_of(shown["overview"])) < 50_000


@pytest.mark.pictures
def test_nights_end_with_a_summary_and_only_a_single_skill_has_a_picture(
    platform: Platform,
    night,
    instance: dg.DagsterInstance,
) -> None:
    enrol(platform, [40, 40, 2])
    night(platform)
    first = summary(instance)
    assert (first["skills"].value, first["calibrated"].value, first["skipped"].value) == (3, 2, 1)
    assert "picture" not in latest(instance, str(platform.id(1))).metadata
    with psycopg.connect(platform.url) as connection:
        connection.execute("UPDATE attempts SET is_correct = true WHERE item_id = %s", [platform.id(2)])
    night(platform, AS_OF + dt.timedelta(days=1), [str(platform.id(2))])
    assert len(png_of(latest(instance, str(platform.id(2))).metadata["picture"])) < 15_000
    moves = summary(instance)["largest_moves"].records
    assert [record.data["skill"] for record in moves] == [str(platform.id(2))]
