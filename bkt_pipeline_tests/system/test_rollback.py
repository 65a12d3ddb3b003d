"""Rolling back to an earlier night, and deleting the oldest nights."""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest

from bkt_pipeline import __version__
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.cli.main import main
from bkt_pipeline.db.database import Database, open_database
from bkt_pipeline.db.ledger import SkillOutcome, record
from bkt_pipeline.db.params import publish
from bkt_pipeline.db.rollback import roll_back
from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.model import BktParams, calibrate
from bkt_pipeline.model.simulate import simulate
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers.state import snapshot, torn

FIRST = dt.datetime(2026, 1, 1, 7, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture
def platform(make_platform: Callable[..., Platform]) -> Platform:
    return make_platform(migrated=True)


@pytest.fixture
def database(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("DATABASE_URL", platform.url)
    with open_database() as opened:
        yield opened


def night(database: Database, platform: Platform, number: int, *skills: int) -> dict[str, tuple[float, ...]]:
    """Calibrate the skills as of that night; returns the published parameters of all skills afterwards."""
    as_of = FIRST + number * DAY
    for skill in skills:
        key = str(platform.id(skill))
        answers = simulate(
            BktParams(0.3, 0.1, 0.1, 0.2),
            n_students=30,
            seed=100 * skill + number,
            lengths=5,
            skill_id=key,
        )
        fit = replace(calibrate(answers), as_of=as_of)

        def store(connection, fit=fit, key=key) -> bool:
            row = SkillOutcome(key, as_of, Outcome.CALIBRATED, attempts=fit.n_attempts)
            record(connection, [row], f"run {number}")
            return key in publish(connection, database.platform, [fit], f"run {number}", __version__)

        assert database.run(store)
    return published(platform)


def published(platform: Platform) -> dict[str, tuple[float, ...]]:
    with psycopg.connect(platform.url) as connection:
        rows = connection.execute(
            "SELECT skill_id::text, p_l0, p_transit, p_slip, p_guess, log_likelihood FROM skill_bkt_params"
        ).fetchall()
    return {row[0]: row[1:] for row in rows}


def date(number: int) -> str:
    return (FIRST + number * DAY).date().isoformat()


def ledger(platform: Platform) -> dict[tuple[str, str], str]:
    rows = snapshot(platform.url)["night_skills"]
    return {(row["night"], row["skill_id"]): row["outcome"] for row in rows}


def test_rollback_restores_the_state_at_the_end_of_a_night(
    database: Database, platform: Platform, capfd: pytest.CaptureFixture[str]
) -> None:
    """Skill 2 was not calibrated in the second night, so it gets its parameters from the first."""
    night(database, platform, 0, 1, 2)
    then = night(database, platform, 1, 1)
    now = night(database, platform, 2, 1, 2, 3)
    assert main(["rollback", "--night", date(1)]) == 0
    assert published(platform) == then | {str(platform.id(3)): now[str(platform.id(3))]}
    out = capfd.readouterr().out
    assert "restored 2 skills" in out
    assert "first calibrated later, and left as they are: 1 skill" in out
    marks = {key: outcome for key, outcome in ledger(platform).items() if outcome != "calibrated"}
    assert marks == {
        (date(2), str(platform.id(1))): "rolled_back",
        (date(2), str(platform.id(2))): "rolled_back",
    }
    assert "parameters that differ from the published calibration" not in torn(platform.url)


def test_one_skill_can_be_rolled_back_alone(database: Database, platform: Platform) -> None:
    then = night(database, platform, 0, 1, 2)
    now = night(database, platform, 1, 1, 2)
    one, two = (str(platform.id(n)) for n in (1, 2))
    assert main(["rollback", "--night", date(0), "--skill", one]) == 0
    assert published(platform) == {one: then[one], two: now[two]}


def test_the_next_night_publishes_again(database: Database, platform: Platform) -> None:
    night(database, platform, 0, 1)
    night(database, platform, 1, 1)
    assert main(["rollback", "--night", date(0)]) == 0
    before = published(platform)
    assert night(database, platform, 2, 1) != before
    assert ledger(platform)[date(2), str(platform.id(1))] == "calibrated"


def test_a_rollback_can_be_undone(database: Database, platform: Platform) -> None:
    night(database, platform, 0, 1)
    now = night(database, platform, 1, 1)
    before = snapshot(platform.url)
    assert main(["rollback", "--night", date(0)]) == 0
    assert main(["rollback", "--night", date(1)]) == 0
    assert published(platform) == now
    assert snapshot(platform.url) == before


def test_an_impossible_rollback_is_refused_and_changes_nothing(
    database: Database, platform: Platform, capfd: pytest.CaptureFixture[str]
) -> None:
    night(database, platform, 1, 1)
    before = snapshot(platform.url)
    for arguments, message in (
        (["--night", date(0)], f"the stored nights are {date(1)} to {date(1)}"),
        (["--night", "yesterday"], "'yesterday' is not a date"),
        (["--night", date(1), "--skill", "fractions"], "no parameters were ever stored for fractions"),
    ):
        assert main(["rollback", *arguments]) == 2
        assert message in capfd.readouterr().err
    assert snapshot(platform.url) == before


def test_a_skill_that_the_table_refuses_costs_the_others_nothing(
    database: Database, platform: Platform, capfd: pytest.CaptureFixture[str]
) -> None:
    first = night(database, platform, 0, 1, 2)
    second = night(database, platform, 1, 1, 2)
    one, two = str(platform.id(1)), str(platform.id(2))
    with psycopg.connect(platform.url) as connection:
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'not this one'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER two BEFORE UPDATE ON skill_bkt_params FOR EACH ROW"
            f" WHEN (old.skill_id = '{two}') EXECUTE FUNCTION refuse()"
        )
    assert main(["rollback", "--night", date(0)]) == 1
    assert "not this one" in capfd.readouterr().err
    assert published(platform) == {one: first[one], two: second[two]}


def test_pruning_keeps_what_a_rollback_to_any_kept_night_needs(
    database: Database, platform: Platform, capfd: pytest.CaptureFixture[str]
) -> None:
    night(database, platform, 0, 1, 2)
    night(database, platform, 1, 1)
    at_two = night(database, platform, 2, 1)
    night(database, platform, 3, 1, 2)
    assert main(["prune", "--nights", "2"]) == 0
    assert (
        f"kept the nights since {date(2)}; deleted 2 rows of parameters, 3 outcomes" in capfd.readouterr().out
    )
    assert {key for key, _ in ledger(platform)} == {date(2), date(3)}
    assert main(["rollback", "--night", date(2)]) == 0
    assert published(platform) == at_two


def test_pruning_nothing_is_fine(database: Database, platform: Platform) -> None:
    night(database, platform, 0, 1)
    before = snapshot(platform.url)
    assert main(["prune"]) == 0
    assert snapshot(platform.url) == before
    assert main(["prune", "--nights", "0"]) == 2


def test_a_rollback_without_any_night_is_refused(database: Database) -> None:
    with pytest.raises(InvalidSettings, match="no night is stored yet"):
        database.run(lambda connection: roll_back(connection, database.platform, FIRST.date()))
