"""The command `compare`: two nights, or a night and a rehearsal, side by side."""

import argparse
import datetime as dt
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from bkt_pipeline.errors import InvalidSettings

if TYPE_CHECKING:
    from rich.table import Table

    from bkt_pipeline.calibration.moves import Move
    from bkt_pipeline.db.database import Database

REHEARSAL = "rehearsal"
SHOWN = 20  # skills, unless --all
PARAMETERS = ("p_l0", "p_transit", "p_slip", "p_guess")


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command line."""
    compare = commands.add_parser(
        "compare",
        help="compare two nights, or a night and a rehearsal",
        description="Prints two nights side by side: what each published or would have published, how well each "
        "estimator and each item model predicts held-out answers, and the skills whose parameters differ, the largest "
        "change first. "
        "A night is its date in UTC, e.g. 2026-01-31; the word rehearsal is the latest run of nightly --rehearse.",
    )
    compare.add_argument("before", metavar="A", help="a date, or rehearsal")
    compare.add_argument("after", metavar="B", help="a date, or rehearsal")
    compare.add_argument(
        "--all", action="store_true", help=f"list every skill that differs, not only the first {SHOWN}"
    )
    compare.set_defaults(run=run_compare)


def run_compare(options: argparse.Namespace) -> int:
    """Print the comparison."""
    from bkt_pipeline.calibration.moves import moves
    from bkt_pipeline.cli.console import out
    from bkt_pipeline.db.database import open_database

    names = (options.before, options.after)
    with open_database() as database:
        before, after = (_fits(database, name) for name in names)
        items = [_items(database, name, fits) for name, fits in zip(names, (before, after), strict=True)]
    shown = out()
    for name, fits in zip(names, (before, after), strict=True):
        shown.print(f"{name}: {_summary(fits)}", markup=False, soft_wrap=True)
    shown.print("\nHeld-out answers, mean over skills:", markup=False)
    shown.print(_scores(names, before, after))
    for name, sentence in zip(names, items, strict=True):
        if sentence:
            shown.print(f"{name}: {sentence}", markup=False, soft_wrap=True)
    moved = moves(_parameters(before), _parameters(after))
    both = len(set(before) & set(after))
    shown.print(
        f"\n{len(moved)} of {both} skills differ; only in {names[0]}: {len(before) - both}, "
        f"only in {names[1]}: {len(after) - both}",
        markup=False,
        soft_wrap=True,
    )
    listed = moved if options.all else moved[:SHOWN]
    if listed:
        shown.print(_moves(listed))
    if len(listed) < len(moved):
        shown.print(f"{len(moved) - len(listed)} more; --all lists them", markup=False)
    return 0


def _fits(database: "Database", name: str) -> dict[str, Any]:
    from bkt_pipeline.db.rehearsals import fits_of_night, fits_of_rehearsal

    if name == REHEARSAL:
        fits = database.run(fits_of_rehearsal)
        if not fits:
            raise InvalidSettings("there is no rehearsal yet; run bkt-pipeline nightly --rehearse")
        return fits
    try:
        night = dt.date.fromisoformat(name)
    except ValueError:
        raise InvalidSettings(
            f"{name!r} is neither a date nor the word {REHEARSAL}; use the form 2026-01-31"
        ) from None
    fits = database.run(partial(fits_of_night, night=night))
    if not fits:
        raise InvalidSettings(f"no skill was calibrated in the night of {night}; doctor shows the last night")
    return fits


def _items(database: "Database", name: str, fits: Mapping[str, Any]) -> str | None:
    """Which item model predicts best, in one sentence; None if no items were calibrated with these fits."""
    from bkt_pipeline.calibration.comparison import item_sentence
    from bkt_pipeline.db.ledger import items_of_night, items_of_rehearsal
    from bkt_pipeline.model.irt.comparison import pool_comparisons

    read = (
        partial(items_of_rehearsal, as_of=next(iter(fits.values()))["as_of"])
        if name == REHEARSAL
        else partial(items_of_night, night=dt.date.fromisoformat(name))
    )
    compared = pool_comparisons(row.comparison for row in database.run(read) if row.comparison)
    return item_sentence(compared) if compared else None


def _summary(fits: Mapping[str, Any]) -> str:
    estimators = Counter(fit["estimator"] for fit in fits.values())
    attempts = sum(fit["attempts"] for fit in fits.values())
    as_of = max(fit["as_of"] for fit in fits.values())
    return (
        f"as of {as_of.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC, {len(fits)} skills by {', '.join(estimators)}, "
        f"{attempts:,} attempts"
    )


def _parameters(fits: Mapping[str, Any]) -> dict[str, list[float]]:
    return {key: [fit[name] for name in PARAMETERS] for key, fit in fits.items()}


def _scores(names: tuple[str, str], *sides: Mapping[str, Any]) -> "Table":
    """The mean scores of each estimator on both sides; the published one is marked."""
    from rich.table import Table
    from rich.text import Text

    from bkt_pipeline.calibration.comparison import compare_estimators
    from bkt_pipeline.db.fits import scores_of
    from bkt_pipeline.db.schema import COMPARED

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("", "estimator", "ll/answer", "auc", "rmse", ""):
        table.add_column(title, justify="left" if title in ("", "estimator") else "right", no_wrap=True)
    for name, fits in zip(names, sides, strict=True):
        published = {fit["estimator"] for fit in fits.values()}
        compared = compare_estimators([scores_of(fit) for fit in fits.values()], min(published))
        if compared is None:
            table.add_row(Text(name), "too few students to hold some out")
            continue
        for estimator in COMPARED:
            mean = compared.means[estimator]
            table.add_row(
                Text(name),
                estimator,
                f"{mean.log_likelihood:.4f}",
                "" if mean.auc is None else f"{mean.auc:.4f}",
                f"{mean.rmse:.4f}",
                "published" if estimator in published else "",
            )
    return table


def _moves(moved: "list[Move]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    from bkt_pipeline.calibration.labels import shortened
    from bkt_pipeline.cli.tables import LONGEST_NAME
    from bkt_pipeline.db.isolation import shown_key

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("skill")
    for name in PARAMETERS:
        table.add_column(name, no_wrap=True)
    for move in moved:
        cells = [
            f"{now:.3g}" if now == then else f"{then:.3g} → {now:.3g}"
            for then, now in zip(move.before, move.after, strict=True)
        ]
        table.add_row(Text(shortened(shown_key(move.skill_id), LONGEST_NAME)), *cells)
    return table
