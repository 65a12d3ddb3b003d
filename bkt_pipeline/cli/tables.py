"""A night as text: a table of the skills, the grouped reasons below it, and totals."""

from collections.abc import Mapping, Sequence, Set

from rich.cells import cell_len, chop_cells
from rich.console import RenderableType
from rich.segment import Segment, Segments
from rich.style import Style
from rich.table import Table
from rich.text import Text

from bkt_pipeline.calibration.labels import counted, labels, one_line, printable
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.reasons import reason_lines
from bkt_pipeline.db.isolation import shown_key
from bkt_pipeline.db.ledger import ItemsOutcome, SkillOutcome
from bkt_pipeline.model.irt.fits import ItemStatus

STYLES = {
    Outcome.CALIBRATED: "green",
    Outcome.SKIPPED: "yellow",
    Outcome.OVERTAKEN: "yellow",
    Outcome.FAILED: "red",
    Outcome.ROLLED_BACK: "yellow",
}
PARAMETERS = ("p_l0", "p_transit", "p_slip", "p_guess")
NARROW = 100  # characters; a narrower table leaves out two columns
WITH_IDS = 130  # characters; a narrower table shows a skill's name in place of its id
# Cells of a name or id in a narrow table, which shortens longer ones in the middle: at most, and at least.
LONGEST_NAME, SHORTEST_NAME = 30, 8
GAP = 2  # characters between columns


def night_table(
    outcomes: Sequence[SkillOutcome],
    parameters: dict[str, dict[str, float]],
    names: Mapping[str, str],
    width: int,
) -> tuple[RenderableType, list[str]]:
    """A table with one row per skill, and the lines with reasons to print below it."""
    wide, called = width >= NARROW, labels([outcome.skill_id for outcome in outcomes], names)
    with_ids = width >= WITH_IDS and any(outcome.skill_id in names for outcome in outcomes)
    numbers = {
        "attempts": [_count(outcome.attempts) for outcome in outcomes],
        **({"students": [_count(outcome.students) for outcome in outcomes]} if wide else {}),
        **{name: [_parameter(outcome, parameters, name) for outcome in outcomes] for name in PARAMETERS},
        **({"ll/attempt": [_per_attempt(outcome) for outcome in outcomes]} if wide else {}),
    }
    taken = sum(max(map(len, [name, *values])) + GAP for name, values in numbers.items())
    room = max(SHORTEST_NAME, width - taken - GAP - max(map(len, STYLES)))
    widest_name = max((cell_len(one_line(name)) for name in names.values()), default=0)
    widest_id = max((cell_len(shown_key(outcome.skill_id)) for outcome in outcomes), default=0)
    widest_name = max(min(widest_name, (room - GAP) // 2), min(widest_name, room - GAP - widest_id))
    keys = [outcome.skill_id for outcome in outcomes]
    if with_ids:
        # A name and an id share the room; each may use what the other leaves.
        shown = {
            "skill": [_fitted(shown_key(key), room - GAP - widest_name) for key in keys],
            "name": [_fitted(one_line(names.get(key, "")), widest_name) for key in keys],
        }
    else:
        longest = room if wide else min(room, LONGEST_NAME)
        shown = {"skill": [_fitted(called[key] if key in names else shown_key(key), longest) for key in keys]}
    columns = {**shown, **numbers, "status": [str(outcome.outcome) for outcome in outcomes]}
    styles = [STYLES[outcome.outcome] for outcome in outcomes]
    widths = {name: max(map(cell_len, (name, *cells))) for name, cells in columns.items()}
    fits = sum(widths.values()) + GAP * len(widths) <= width
    table = _lines(columns, widths, set(shown), styles) if fits else _table(columns, set(shown), styles)
    lines = reason_lines(outcomes, called)
    return table, ["", *lines] if lines else []


def _lines(
    columns: Mapping[str, Sequence[str]], widths: Mapping[str, int], left: Set[str], styles: Sequence[str]
) -> Segments:
    """Each row as one line. Rich takes a third of a millisecond for a row of a table."""
    filled = []
    for name, cells in columns.items():
        gaps = ((" " * (widths[name] - cell_len(cell)), cell) for cell in (name, *cells))
        to_left = name in left or name == "status"
        filled.append([cell + gap if to_left else gap + cell for gap, cell in gaps])
    heads, *rows = zip(*filled, strict=True)
    between = " " * GAP
    segments = [Segment(between.join(heads), Style(bold=True)), Segment.line()]
    for (*cells, status), style in zip(rows, styles, strict=True):
        start = between.join((*cells, ""))
        segments += [Segment(start), Segment(status, Style.parse(style)), Segment.line()]
    return Segments(segments)


def _table(columns: Mapping[str, Sequence[str]], left: Set[str], styles: Sequence[str]) -> Table:
    """The rows as a table in which a text may need several lines."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for name in columns:
        if name in left:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="left" if name == "status" else "right", no_wrap=True)
    for (*cells, status), style in zip(zip(*columns.values(), strict=True), styles, strict=True):
        table.add_row(*map(Text, cells), Text(status, style))
    return table


def night_totals(outcomes: Sequence[SkillOutcome], seconds: float) -> str:
    """The line of totals below the table."""
    counts = {kind: sum(outcome.outcome is kind for outcome in outcomes) for kind in STYLES}
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    attempts = sum(outcome.attempts or 0 for outcome in outcomes)
    fitted = [outcome.log_likelihood for outcome in outcomes if outcome.outcome is Outcome.CALIBRATED]
    likelihood = f"log-likelihood {sum(filter(None, fitted)):,.1f}, " if fitted else ""
    return f"{counted(len(outcomes), 'skill')}: {listed or 'none'}; {attempts:,} attempts, {likelihood}{seconds:.1f} s"


def items_totals(outcomes: Sequence[ItemsOutcome], names: Mapping[str, str], seconds: float) -> str:
    """The line of totals for the items, and one line for each skill whose items failed."""
    counts = {status: sum(getattr(outcome, status) for outcome in outcomes) for status in ItemStatus}
    listed = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
    attempts = sum(outcome.attempts for outcome in outcomes)
    late = sum(outcome.outcome is Outcome.OVERTAKEN for outcome in outcomes)
    parts = [
        counted(sum(counts.values()), "item") + (f": {listed}" if listed else ""),
        *([f"those of {counted(late, 'skill')} were overtaken"] if late else []),
        f"{attempts:,} attempts, {seconds:.1f} s",
    ]
    lines = ["; ".join(parts)]
    called = labels([outcome.skill_id for outcome in outcomes], names)
    lines += [
        f"failed: items of {called[outcome.skill_id]}: {printable(outcome.reason or '')}"
        for outcome in outcomes
        if outcome.outcome is Outcome.FAILED
    ]
    return "\n".join(lines)


def _fitted(name: str, cells: int) -> str:
    """The name, without its middle if it needs more cells of the terminal; a wide character needs two."""
    if cell_len(name) <= cells:
        return name
    tail = cells // 3
    return f"{chop_cells(name, cells - tail - 1)[0]}…{chop_cells(name[::-1], tail)[0][::-1]}"


def _parameter(outcome: SkillOutcome, parameters: Mapping[str, Mapping[str, float]], name: str) -> str:
    fitted = parameters.get(outcome.skill_id) if outcome.outcome is Outcome.CALIBRATED else None
    return f"{fitted[name]:.4g}" if fitted else ""


def _per_attempt(outcome: SkillOutcome) -> str:
    if not outcome.log_likelihood or not outcome.attempts:
        return ""
    return f"{outcome.log_likelihood / outcome.attempts:.4f}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
