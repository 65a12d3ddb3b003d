"""`export` writes what a night stored, in every format, and nothing about a student."""

import io
import json
import sys
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

# Importing it warns once, and inside a test a warning is an error.
import bkt_pipeline.definitions  # noqa: F401
from bkt_pipeline import frames
from bkt_pipeline.cli.main import main
from bkt_pipeline_tests.conftest import AS_OF, Platform
from bkt_pipeline_tests.helpers.schools import enrol, stored
from bkt_pipeline_tests.helpers.state import snapshot

NIGHT = AS_OF.date().isoformat()
NAMES = ["p_l0", "p_transit", "p_slip", "p_guess", "log_likelihood"]
INTERVAL = ["p_transit_low", "p_transit_high", "p_transit_profile_low", "p_transit_profile_high"]


def test_a_night_is_exported_in_every_format(
    platform: Platform,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("DATABASE_URL", platform.url)
    monkeypatch.chdir(tmp_path)
    windows = enrol(platform, [40, 60, 3])

    def refused(*options: str) -> str:
        assert main(["export", *options]) == 2
        captured = capfd.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        return line

    assert "there is no night yet; run bkt-pipeline nightly" in refused()
    assert main(["nightly", "--as-of", AS_OF.isoformat()]) == 0
    capfd.readouterr()

    formats = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}
    for kind in formats:
        assert main(["export", "--night", NIGHT, "--format", kind, "--out", f"night/{kind}"]) == 0
    folder = tmp_path / "night"
    assert f"wrote 2 rows to {folder}/csv/params.csv" in capfd.readouterr().err
    assert sorted(path.name for path in (folder / "csv").iterdir()) == ["items.csv", "params.csv"]
    read = {
        (kind, name): load(folder / kind / f"{name}.{kind}")
        for kind, load in formats.items()
        for name in ("params", "items")
    }
    params = read["csv", "params"].set_index("skill_id")
    assert {key: tuple(params.loc[key, NAMES]) for key in params.index} == stored(platform)
    fits = {row["skill_id"]: row for row in snapshot(platform.url)["skill_fits"]}
    for key in params.index:
        assert params.loc[key, INTERVAL].tolist() == [fits[key][name] for name in INTERVAL]
    items = {(row["skill_id"], row["item_id"]): row for row in snapshot(platform.url)["item_irt_params"]}
    exported = read["csv", "items"].set_index(["skill_id", "item_id"])
    assert {key: exported.loc[key, "offset_d"] for key in exported.index} == {
        key: row["offset_d"] for key, row in items.items()
    }
    for kind in ("json", "parquet"):
        for name in ("params", "items"):
            one, other = read["csv", name], read[kind, name]
            assert list(one.columns) == list(other.columns)
            numbers = one.select_dtypes("number").columns.drop("flags", errors="ignore")
            # pandas reads the floats of JSON less exactly.
            near = 1e-12 if kind == "json" else 0.0
            assert np.allclose(one[numbers], other[numbers].astype(float), near, near, equal_nan=True)

    written = [path for path in folder.rglob("*") if path.is_file()]
    assert all(str(platform.id(30)).encode() not in path.read_bytes() for path in written)
    assert "moment_mean" not in params.columns

    answers = pd.concat(
        pd.DataFrame({"student_id": np.repeat(w.student_ids, np.diff(w.offsets)), "skill_id": key, "is_correct": w.responses})
        for key, w in windows.items()
        if key in params.index
    )  # fmt: skip
    assert frames.fit(answers).loc[params.index, NAMES].equals(params[NAMES])
    assert len(frames.predict(answers, read["parquet", "params"])) == len(answers)

    assert main(["export"]) == 0
    assert pd.read_csv(io.StringIO(capfd.readouterr().out)).equals(read["csv", "params"])
    assert main(["export", "--format", "json"]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert {name: len(rows) for name, rows in printed.items()} == {"params": 2, "items": len(items)}

    assert "no skill was calibrated in the night of 2020-01-01" in refused("--night", "2020-01-01")
    assert "--night 'today' is not a date; use the form 2026-01-31" in refused("--night", "today")
    assert "needs --out FOLDER" in refused("--format", "parquet")
    assert "params.csv is a file; name a folder" in refused("--out", f"{folder}/csv/params.csv")
    (folder / "params.csv").mkdir()
    assert "params.csv is a folder; name a file" in refused("--out", str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["csv", "json", "params.csv", "parquet"]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install -e '.[parquet]'" in refused("--format", "parquet", "--out", str(folder))
