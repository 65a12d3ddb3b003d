import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, text

from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.db.answers import read_answers, reflect_mastery
from bkt_pipeline.db.attempts import read_windows
from bkt_pipeline.db.connection import make_engine, transaction
from bkt_pipeline.db.items import item_rows, load_items, platform_columns, platform_rows, store_items
from bkt_pipeline.db.ledger import ItemsOutcome, item_prior, items_of_night, outcomes_of_runs, record
from bkt_pipeline.db.migrations import migrate
from bkt_pipeline.db.params import current_params
from bkt_pipeline.db.platform import reflect
from bkt_pipeline.db.schema import item_irt_params
from bkt_pipeline.errors import SourceSchemaError
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.prediction import are_held_out
from bkt_pipeline.model.irt.answers import SkillAnswers
from bkt_pipeline.model.irt.comparison import ItemComparison
from bkt_pipeline.model.irt.items import ItemModel, SkillItems
from bkt_pipeline.model.irt.offset import fit_offsets
from bkt_pipeline.model.irt.prior import SHIPPED_ITEM_PRIOR, ItemMoments, learn_item_prior
from bkt_pipeline.model.irt.two_pl import fit_items
from bkt_pipeline.model.params import BktParams
from bkt_pipeline_tests.conftest import Platform

AS_OF = dt.datetime(2026, 3, 1, 7, tzinfo=dt.UTC)
MOMENTS = (3.0, 0.25, 1.5, 0.5, 0.125, 2.0)
SECOND = dt.timedelta(seconds=1)
DAY = dt.timedelta(days=1)


@pytest.fixture
def platform(make_platform) -> Platform:
    return make_platform(migrated=True)


def add_attempts(platform: Platform, rows: list[tuple[int, int, bool | None, dt.datetime]]) -> None:
    """Insert rows of (student, item, is_correct, created_at) with ascending ids; item 21 belongs to skill 2."""
    with psycopg.connect(platform.url) as connection:
        for skill in (1, 2, 3):
            connection.execute("INSERT INTO skills (id, active) VALUES (%s, true)", [platform.id(skill)])
        for item in (10, 11, 12, 21):
            connection.execute(
                "INSERT INTO items VALUES (%s, %s)", [platform.id(item), platform.id(item // 10)]
            )
        for number, (student, item, right, moment) in enumerate(rows):
            naive = moment.replace(tzinfo=None) if platform.timestamp_type == "timestamp" else moment
            connection.execute(
                "INSERT INTO attempts VALUES (%s, %s, %s, %s, %s)",
                [platform.id(number), platform.id(student), platform.id(item), right, naive],
            )


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = make_engine(url)
    try:
        with transaction(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def read(platform: Platform, *skills: int, by_mastery: bool = False) -> list[SkillAnswers]:
    keys = [str(platform.id(skill)) for skill in skills]
    with connected(platform.url) as connection:
        mastery = reflect_mastery(connection) if by_mastery else None
        found = read_answers(connection, reflect(connection), keys, AS_OF, 90, mastery)
    return [found[key] for key in keys]


def named(answers: SkillAnswers) -> list[str]:
    return [answers.item_ids[place] for place in answers.items]


def test_answers_are_read_in_order_with_their_items(any_platform: Platform) -> None:
    add_attempts(
        any_platform,
        [
            (7, 12, True, AS_OF - 1 * SECOND),
            (7, 10, False, AS_OF - 9 * SECOND),
            (5, 12, True, AS_OF - 3 * SECOND),
            (5, 10, None, AS_OF - 2 * SECOND),
            (5, 21, False, AS_OF - 2 * SECOND),
            (5, 10, True, AS_OF - 3 * SECOND),
        ],
    )
    first, second, third = read(any_platform, 1, 2, 3)
    ten, twelve = (str(any_platform.id(item)) for item in (10, 12))
    assert first.item_ids == (ten, twelve), "an item without a graded answer is not among them"
    assert first.offsets.tolist() == [0, 2, 4]
    assert named(first) == [twelve, ten, ten, twelve]
    assert first.responses.tolist() == [1, 1, 0, 1]
    assert (named(second), second.responses.tolist()) == ([str(any_platform.id(21))], [0])
    assert (third.n_answers, third.n_students, third.item_ids) == (0, 0, ())
    assert third.held_out is not None
    assert third.held_out.tolist() == []


def test_the_same_students_are_held_out_as_from_windows(any_platform: Platform) -> None:
    add_attempts(any_platform, [(student, 10, True, AS_OF - SECOND) for student in range(100, 130)])
    (answers,) = read(any_platform, 1)
    key = str(any_platform.id(1))
    with connected(any_platform.url) as connection:
        window = read_windows(connection, reflect(connection), [key], AS_OF, 90)[key]
    assert isinstance(window, AttemptWindow)
    assert answers.held_out is not None
    held = are_held_out(window.student_ids)
    assert 0 < held.sum() == answers.held_out.sum() < 30
    if any_platform.id_type != "bigint":
        # Both are in the order of the ids there; as text, 99 comes after 100.
        assert answers.held_out.tolist() == [
            held[window.student_ids.index(s)] for s in sorted(window.student_ids)
        ]


def test_the_item_window_is_ninety_days(any_platform: Platform) -> None:
    tick = dt.timedelta(microseconds=1)
    add_attempts(
        any_platform,
        [
            (1, 10, False, AS_OF - 90 * DAY),
            (1, 11, True, AS_OF - 90 * DAY + tick),
            (1, 12, True, AS_OF),
            (1, 10, False, AS_OF + tick),
        ],
    )
    (answers,) = read(any_platform, 1)
    assert named(answers) == [str(any_platform.id(item)) for item in (11, 12)]


def test_mastery_is_read_and_students_without_it_are_left_out(any_platform: Platform) -> None:
    add_attempts(any_platform, [(student, 10, True, AS_OF) for student in (1, 2, 3, 4, 4)])
    with psycopg.connect(any_platform.url) as connection:
        kind = sql.SQL(any_platform.id_type)
        connection.execute(
            sql.SQL(
                "CREATE TABLE student_skill_mastery (student_id {k}, skill_id {k}, p_known numeric)"
            ).format(k=kind)
        )
        for student, skill, known in (
            (1, 1, "0.25"),
            (1, 2, "0.9"),
            (3, 1, None),
            (4, 1, "0.5"),
            (4, 1, "0.6"),
        ):
            connection.execute(
                "INSERT INTO student_skill_mastery VALUES (%s, %s, %s)",
                [any_platform.id(student), any_platform.id(skill), known],
            )
    (answers,) = read(any_platform, 1, by_mastery=True)
    assert answers.offsets.tolist() == [0, 1, 3]
    assert answers.mastery is not None
    # The fourth student's rows contradict each other, which gives NaN; the fit then marks the items as invalid.
    np.testing.assert_array_equal(answers.mastery, [0.25, np.nan])


def test_a_missing_mastery_table_is_reported(platform: Platform) -> None:
    with (
        connected(platform.url) as connection,
        pytest.raises(SourceSchemaError, match="set theta_from to replay"),
    ):
        reflect_mastery(connection)


def test_current_parameters_are_read_and_invalid_ones_named(any_platform: Platform) -> None:
    add_attempts(any_platform, [])
    with connected(any_platform.url) as connection:
        target = reflect(connection)
        for skill, guess in ((1, 0.25), (2, 0.75)):
            connection.execute(
                target.target.insert().values(
                    skill_id=any_platform.id(skill),
                    p_l0=0.5,
                    p_transit=0.125,
                    p_slip=0.25,
                    p_guess=guess,
                    calibrated_at=AS_OF,
                )
            )
        found = current_params(connection, target, [str(any_platform.id(skill)) for skill in (1, 2, 3)])
    assert found.params == {str(any_platform.id(1)): (BktParams(0.5, 0.125, 0.25, 0.25), AS_OF)}
    assert list(found.unusable) == [str(any_platform.id(2))]
    assert "p_guess is 0.75" in found.unusable[str(any_platform.id(2))]


def items_of(platform: Platform, *sizes: int, seed: int = 1, skill: int = 1) -> SkillItems:
    """Items 10, 11, … with these numbers of answers; 300 answers to the first are all right."""
    rng = np.random.default_rng(seed)
    responses = rng.integers(0, 2, sum(sizes))
    if sizes[0] == 300:
        responses[:300] = 1
    ids = tuple(str(platform.id(10 + place)) for place in range(len(sizes)))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    given = rng.normal(size=responses.size), responses, offsets
    return SkillItems(str(platform.id(skill)), ids, fit_items(*given), fit_offsets(*given))


def add_item_columns(platform: Platform, kind: str = "double precision") -> None:
    moment = platform.timestamp_type
    statement = "ALTER TABLE items ADD irt_a {k}, ADD irt_b {k}, ADD irt_calibrated_at {m}"
    with psycopg.connect(platform.url) as connection:
        connection.execute(sql.SQL(statement).format(k=sql.SQL(kind), m=sql.SQL(moment)))


def store(
    connection: Connection,
    items: SkillItems,
    as_of: dt.datetime = AS_OF,
    run: str = "run",
    model: ItemModel | None = None,
) -> set[str]:
    written = store_items(connection, reflect(connection), [items], as_of, run, platform_model=model)
    assert {skill for skill, _ in written} <= {items.skill_id}
    return {item for _, item in written}


def test_stored_items_are_loaded_back_and_nan_is_stored_as_null(platform: Platform) -> None:
    made = items_of(platform, 300, 60, 10)
    with connected(platform.url) as connection:
        assert store(connection, made) == set(made.item_ids)
        loaded = load_items(connection, [made.skill_id, "never stored"])[made.skill_id]
        nulls = connection.execute(
            text(
                "SELECT irt_a IS NULL, se_a IS NULL, log_likelihood IS NULL, calibrated_at IS NULL, status, flags,"
                " offset_d, se_d FROM bkt_pipeline.item_irt_params ORDER BY item_id"
            )
        ).all()
    assert loaded.item_ids == made.item_ids
    for name in ("irt_a", "irt_b", "se_a", "se_b", "log_likelihood", "n_attempts", "flags", "status"):
        np.testing.assert_array_equal(getattr(loaded.fits, name), getattr(made.fits, name))
    for name in ("d", "se"):
        np.testing.assert_array_equal(getattr(loaded.offsets, name), getattr(made.offsets, name))
    assert tuple(nulls[0][:6]) == (True, True, True, True, "skipped", ["all_right"])
    assert tuple(nulls[1][:6]) == (False, False, False, False, "provisional", [])
    assert tuple(nulls[2][:6]) == (True, True, True, True, "skipped", [])
    offsets = zip(made.offsets.d.tolist(), made.offsets.se.tolist(), strict=True)
    assert [tuple(row[6:]) for row in nulls] == list(offsets), (
        "an item has its offset from its first answer on"
    )


def test_an_older_night_never_replaces_a_newer_one(platform: Platform) -> None:
    newer, older = items_of(platform, 60, 70), items_of(platform, 60, 70, 80, seed=2)
    with connected(platform.url) as connection:
        store(connection, newer, AS_OF, "newer")
        assert store(connection, older, AS_OF - DAY, "older") == {older.item_ids[2]}
        rows = item_rows(connection, [newer.skill_id], "newer")[newer.skill_id]
    assert {item: row and row[3] for item, row in rows.items()} == dict(
        zip(older.item_ids, [*newer.offsets.d.tolist(), None], strict=True)
    )


def test_an_item_with_too_few_answers_keeps_its_parameters(platform: Platform) -> None:
    with connected(platform.url) as connection:
        first = items_of(platform, 60, 20)
        store(connection, first, AS_OF, "first")
        assert store(connection, items_of(platform, 40, 30), AS_OF + DAY, "second") == {first.item_ids[1]}
        loaded = load_items(connection, [first.skill_id])[first.skill_id]
    assert loaded.fits.irt_a[0] == first.fits.irt_a[0]
    assert loaded.fits.n_attempts.tolist() == [60, 30]


@pytest.mark.parametrize("kind", ["double precision", "numeric"])
def test_the_platforms_item_columns_are_updated_whatever_their_type(make_platform, kind: str) -> None:
    platform = make_platform()
    add_item_columns(platform, kind)
    check_update(platform)


def test_item_columns_are_updated_on_every_kind_of_platform(any_platform: Platform) -> None:
    add_item_columns(any_platform)
    check_update(any_platform)


def check_update(platform: Platform) -> None:
    add_attempts(platform, [])
    made = items_of(platform, 60, 70, 10)
    with connected(platform.url) as connection:
        migrate(connection)
        source = reflect(connection)
        assert platform_columns(connection, source) == dict.fromkeys(
            ["irt_a", "irt_b", "irt_calibrated_at"], True
        )
        store(connection, made, model="2pl")
        shown = platform_rows(connection, [made.skill_id], source)[made.skill_id]
        moments = connection.execute(
            text("SELECT irt_calibrated_at IS NULL FROM items ORDER BY irt_a NULLS LAST")
        ).scalars()
        assert list(moments) == [False, False, True, True]
    fits = made.fits
    assert shown == {
        made.item_ids[0]: pytest.approx((fits.irt_a[0], fits.irt_b[0])),
        made.item_ids[1]: pytest.approx((fits.irt_a[1], fits.irt_b[1])),
        made.item_ids[2]: (None, None),
    }


def test_the_platform_may_get_the_offsets_and_one_sided_items_keep_what_they_have(platform: Platform) -> None:
    add_item_columns(platform)
    add_attempts(platform, [])
    made = items_of(platform, 300, 60, 10)
    with connected(platform.url) as connection:
        source = reflect(connection)
        connection.execute(text("UPDATE items SET irt_a = 3, irt_b = 3"))
        store(connection, made, model="offset")
        shown = platform_rows(connection, [made.skill_id], source)[made.skill_id]
    one_sided, *others = made.item_ids
    assert shown.pop(one_sided) == (3, 3)
    assert shown == {
        item: (1, pytest.approx(-d)) for item, d in zip(others, made.offsets.d[1:].tolist(), strict=True)
    }


def test_a_platform_without_item_columns_is_not_altered(platform: Platform) -> None:
    with psycopg.connect(platform.url) as connection:
        connection.execute("ALTER TABLE items ADD irt_a double precision, ADD irt_b double precision")
    with connected(platform.url) as connection:
        assert platform_columns(connection, reflect(connection)) == {}


def test_update_rights_are_found_for_each_column(platform: Platform) -> None:
    add_item_columns(platform)
    with connected(platform.url) as connection:
        source = reflect(connection)
        connection.execute(text("CREATE ROLE bkt_reader"))
        connection.execute(text("GRANT UPDATE (irt_a) ON items TO bkt_reader"))
        connection.execute(text("SET LOCAL ROLE bkt_reader"))
        found = platform_columns(connection, source)
        connection.execute(text("RESET ROLE"))
        connection.execute(text("REVOKE UPDATE (irt_a) ON items FROM bkt_reader"))
        connection.execute(text("DROP ROLE bkt_reader"))
    assert found == {"irt_a": True, "irt_b": False, "irt_calibrated_at": False}


def test_the_ledger_keeps_the_newest_outcome_of_a_night(platform: Platform) -> None:
    newer = ItemsOutcome(
        "s", AS_OF, Outcome.CALIBRATED, None, 3, 2, 1, 0, 900, -512.5, MOMENTS, 180, -0.6, -0.62, -0.59, -0.58
    )
    older = ItemsOutcome("s", AS_OF - SECOND, Outcome.FAILED, "why")
    with connected(platform.url) as connection:
        record(connection, [newer], "new")
        record(connection, [older], "old")
        assert (
            items_of_night(connection, AS_OF.date())
            == outcomes_of_runs(connection, ItemsOutcome, ["new"])
            == [newer]
        )
        assert outcomes_of_runs(connection, ItemsOutcome, ["old"]) == []
    assert newer.comparison == ItemComparison(180, -0.6, -0.62, -0.59, -0.58)
    assert older.comparison is None


def test_the_prior_is_learned_from_what_each_skill_taught_last_before_the_night(platform: Platform) -> None:
    hard = tuple(2 * number for number in MOMENTS)
    calibrated = partial(ItemsOutcome, outcome=Outcome.CALIBRATED)
    with connected(platform.url) as connection:
        assert item_prior(connection, AS_OF.date()) == SHIPPED_ITEM_PRIOR
        record(connection, [calibrated("s", AS_OF - 3 * DAY, moments=MOMENTS)], "first")
        record(connection, [calibrated("s", AS_OF - 2 * DAY, moments=hard)], "second")
        record(
            connection, [calibrated("s", AS_OF - DAY), calibrated("t", AS_OF - DAY, moments=MOMENTS)], "third"
        )
        record(connection, [calibrated("s", AS_OF, moments=MOMENTS)], "this night")
        odd = (*MOMENTS[:-1], float("nan"))
        record(connection, [calibrated("odd", AS_OF - DAY, moments=odd)], "a row that somebody changed")
        learned = item_prior(connection, AS_OF.date())
    assert learned == learn_item_prior([ItemMoments(6, *hard[1:]), ItemMoments(3, *MOMENTS[1:])])
    assert learned != SHIPPED_ITEM_PRIOR


def test_thousands_of_items_are_stored_in_one_transaction(platform: Platform) -> None:
    n = 6000
    rng = np.random.default_rng(1)
    given = rng.normal(size=2 * n), rng.integers(0, 2, 2 * n), np.arange(n + 1) * 2
    ids = tuple(f"i{number}" for number in range(n))
    made = SkillItems(str(platform.id(1)), ids, fit_items(*given, min_answers=2), fit_offsets(*given))
    with connected(platform.url) as connection:
        assert len(store(connection, made)) == n
        assert connection.execute(item_irt_params.select()).rowcount == n
