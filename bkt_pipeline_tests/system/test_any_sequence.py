"""Whatever was done before, and whatever was done to the backend's table, an ordinary night calibrates again."""

import datetime as dt
import random
from collections.abc import Callable, Iterator

import dagster as dg
import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from bkt_pipeline.cli.main import main
from bkt_pipeline.db.database import Database, open_database
from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.defs.tags import night_tags
from bkt_pipeline.errors import RowNotTaken
from bkt_pipeline_tests.conftest import AS_OF, Platform
from bkt_pipeline_tests.helpers.kept_nights import date, keep_night
from bkt_pipeline_tests.helpers.schools import PARAMS, enrol, outcomes, stored

SKILLS = (1, 2, 3)
STEPS = 16
# What an older version stored for an as_of in the future, of one skill.
CLOCK_ERROR = """
    UPDATE bkt_pipeline.published_params SET as_of = now() + interval '100 years' WHERE skill_id = %(key)s;
    UPDATE bkt_pipeline.attempt_windows SET as_of = now() + interval '100 years' WHERE skill_id = %(key)s;
    INSERT INTO bkt_pipeline.night_skills (night, skill_id, as_of, outcome, run_id, recorded_at)
        SELECT '2126-01-01', %(key)s, '2126-01-01 07:00Z', 'calibrated', 'wrong clock', now() ON CONFLICT DO NOTHING;
    INSERT INTO bkt_pipeline.skill_fits
        SELECT (jsonb_populate_record(f, '{"night": "2126-01-01", "as_of": "2126-01-01 07:00Z"}')).*
        FROM bkt_pipeline.skill_fits f WHERE skill_id = %(key)s ORDER BY night DESC LIMIT 1 ON CONFLICT DO NOTHING;
"""
TARGET_CHANGES = (
    "TRUNCATE skill_bkt_params",
    "DELETE FROM skill_bkt_params WHERE skill_id = %(id)s",
    "UPDATE skill_bkt_params SET p_slip = 0.49, calibrated_at = 'infinity' WHERE skill_id = %(id)s",
    "UPDATE skill_bkt_params SET p_guess = 0.49",
)


@pytest.fixture
def platform(make_platform: Callable[..., Platform]) -> Platform:
    return make_platform(migrated=True)


@pytest.fixture
def database(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    enrol(platform, [20] * len(SKILLS))
    monkeypatch.setenv("DATABASE_URL", platform.url)
    with open_database() as opened:
        yield opened


def change(platform: Platform, statements: str, skill: int) -> None:
    with psycopg.connect(platform.url, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(statements, {"key": str(platform.id(skill)), "id": platform.id(skill)})


def fits(platform: Platform) -> dict[tuple[str, str], tuple[float, ...]]:
    """The kept parameters by night and skill."""
    with psycopg.connect(platform.url) as connection:
        rows = connection.execute(
            "SELECT night::text, skill_id, p_l0, p_transit, p_slip, p_guess, log_likelihood FROM bkt_pipeline.skill_fits"
        ).fetchall()
    return {(row[0], row[1]): row[2:] for row in rows}


def last_of(platform: Platform, night: str) -> dict[str, tuple[float, ...]]:
    """What a rollback to the night must restore: the last kept parameters of each skill up to it."""
    return {key: values for (when, key), values in sorted(fits(platform).items()) if when <= night}


@pytest.mark.parametrize("seed", range(3))
def test_after_any_sequence_an_ordinary_night_calibrates(
    platform: Platform, database: Database, night: Callable[..., object], seed: int
) -> None:
    chance = random.Random(seed)
    keep_night(database, platform, -STEPS - 4, *SKILLS)
    read = stored(platform)
    for number in range(-STEPS - 3, -3):
        step = chance.choice(["night", "night", "rollback", "rollback", "prune", "clock", "target"])
        skill = chance.choice(SKILLS)
        if step == "night":
            some = chance.sample(SKILLS, chance.randint(1, len(SKILLS)))
            read = keep_night(database, platform, number, *some, window_days=chance.choice([12, 30, 90]))
        elif step == "rollback":
            back = date(chance.randint(-STEPS - 5, number))
            expected = last_of(platform, back)
            assert main(["rollback", "--night", back]) == (0 if expected else 2)
            if expected:
                read |= expected
            assert {key: stored(platform)[key] for key in expected} == expected
        elif step == "prune":
            before = fits(platform)
            assert main(["prune", "--nights", str(chance.randint(1, 4))]) == 0
            deleted = [key for key in before if key not in fits(platform)]
            assert not [key for when, key in deleted if read[key] not in fits(platform).values()]
        elif step == "clock":
            change(platform, CLOCK_ERROR, skill)
        else:
            change(platform, chance.choice(TARGET_CHANGES), skill)
    run = night(platform)
    assert outcomes(run) == {str(platform.id(skill)): "calibrated" for skill in SKILLS}
    assert stored(platform) == last_of(platform, AS_OF.date().isoformat())


def test_a_deleted_skill_costs_the_rollback_of_the_others_nothing(
    platform: Platform, database: Database
) -> None:
    with psycopg.connect(platform.url) as connection:
        connection.execute(
            "ALTER TABLE skill_bkt_params ADD FOREIGN KEY (skill_id) REFERENCES skills ON DELETE CASCADE"
        )
    then = keep_night(database, platform, 0, *SKILLS)
    keep_night(database, platform, 1, *SKILLS)
    with psycopg.connect(platform.url) as connection:
        connection.execute("DELETE FROM attempts WHERE item_id = %s", [platform.id(2)])
        connection.execute("DELETE FROM items WHERE id = %s", [platform.id(2)])
        connection.execute("DELETE FROM skills WHERE id = %s", [platform.id(2)])
    assert main(["rollback", "--night", date(0)]) == 1
    del then[str(platform.id(2))]
    assert stored(platform) == then


def test_a_rollback_needs_only_the_kept_fits(platform: Platform, database: Database) -> None:
    then = keep_night(database, platform, 0, *SKILLS)
    keep_night(database, platform, 1, *SKILLS)
    change(platform, "TRUNCATE skill_bkt_params, bkt_pipeline.published_params", 1)
    assert main(["rollback", "--night", date(0)]) == 0
    assert stored(platform) == then


MEDDLING = {
    "drops new rows": ("BEFORE INSERT", "RETURN NULL;"),
    "drops changes": ("BEFORE UPDATE", "RETURN NULL;"),
    "rounds a value": ("BEFORE INSERT OR UPDATE", "NEW.p_slip := 0.43; RETURN NEW;"),
    "hides the likelihood": ("BEFORE INSERT OR UPDATE", "NEW.log_likelihood := NULL; RETURN NEW;"),
    "writes to another skill": ("BEFORE INSERT", "NEW.skill_id := gen_random_uuid(); RETURN NEW;"),
    "deletes the row afterwards": ("AFTER INSERT OR UPDATE", "{delete}"),
    "deletes the row at the end of the transaction": ("deferred", "{delete}"),
    "refuses at the end of the transaction": ("deferred", "RAISE EXCEPTION 'not today';"),
}
DELETE = "DELETE FROM skill_bkt_params WHERE skill_id = NEW.skill_id; RETURN NULL;"


@pytest.mark.parametrize("what", MEDDLING)
def test_a_row_that_the_table_does_not_keep_is_neither_published_nor_restored(
    platform: Platform, database: Database, what: str
) -> None:
    when, body = MEDDLING[what]
    keep_night(database, platform, 0, *SKILLS)
    keep_night(database, platform, 1, *SKILLS)
    change(platform, "DELETE FROM skill_bkt_params WHERE skill_id = %(id)s", 3)
    before, kept = stored(platform), fits(platform)
    event = (
        "CONSTRAINT TRIGGER meddles AFTER INSERT OR UPDATE"
        if when == "deferred"
        else f"TRIGGER meddles {when}"
    )
    with psycopg.connect(platform.url) as connection:
        connection.execute(
            "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
            "CREATE {event} ON skill_bkt_params {deferred} FOR EACH ROW EXECUTE FUNCTION meddle()".format(
                body=body.format(delete=DELETE),
                event=event,
                deferred="DEFERRABLE INITIALLY DEFERRED" if when == "deferred" else "",
            ).encode()
        )
    # The third skill has no row, so nothing of it is updated.
    meddled = (1, 2) if when == "BEFORE UPDATE" else SKILLS
    for skill in meddled:
        with pytest.raises((RowNotTaken, DBAPIError)):
            keep_night(database, platform, 2, skill)
    assert main(["rollback", "--night", date(0)]) == 1
    for skill in meddled:
        assert stored(platform).get(str(platform.id(skill))) == before.get(str(platform.id(skill)))
    assert (len(stored(platform)) > len(before)) == (3 not in meddled)
    assert fits(platform) == kept


OTHER_WINDOWS = {
    "as_of = as_of + interval '1 day'": "newer than the run's as_of",
    "as_of = as_of - interval '1 day', window_days = 12": "has 12 days, but the run asks for 30",
    "window_days = 30, sequences = 'from_first_answer'": "has sequences from_first_answer, but the run asks for window",
}


def test_parameters_alone_are_never_calibrated_from_another_window(
    platform: Platform, night, instance: dg.DagsterInstance
) -> None:
    """A run of skill_bkt_params alone uses the stored window, whichever run stored it."""
    enrol(platform, [20])
    night(platform)
    before = stored(platform)
    for change_of_window, says in OTHER_WINDOWS.items():
        change(platform, f"UPDATE bkt_pipeline.attempt_windows SET {change_of_window}", 1)  # noqa: S608
        done = (
            build_definitions()
            .resolve_job_def("calibration")
            .execute_in_process(
                instance=instance,
                partition_key=str(platform.id(1)),
                asset_selection=[PARAMS],
                tags=night_tags(AS_OF + dt.timedelta(hours=1)),
                raise_on_error=False,
            )
        )
        assert not done.success
        assert says in str([event.step_failure_data.error for event in done.get_step_failure_events()])
        assert stored(platform) == before
