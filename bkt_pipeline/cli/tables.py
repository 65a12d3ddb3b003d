"""A night as text: a table of the skills, the grouped reasons below it, and totals."""

import re
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.cli.console import printable
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
LONGEST_NAME = 30  # characters in a narrow table; longer ids are shortened in the middle
NAMED = 8  # skills listed for one reason

_LOW_DATA = re.compile(r"\d+ (graded attempts in \d+ days), fewer than (\d+)")


def night_table(
    outcomes: Sequence[SkillOutcome], parameters: dict[str, dict[str, float]], width: int
) -> tuple[Table, list[str]]:
    """A table with one row per skill, and the lines with reasons to print below it."""
    wide = width >= NARROW
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("skill", overflow="fold")
    numbers = ["attempts", *(["students"] if wide else []), *PARAMETERS, *(["ll/attempt"] if wide else [])]
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for outcome in outcomes:
        fitted = parameters.get(outcome.skill_id) if outcome.outcome is Outcome.CALIBRATED else None
        values = [f"{fitted[name]:.4g}" for name in PARAMETERS] if fitted else [""] * len(PARAMETERS)
        name = shown_key(outcome.skill_id)
        table.add_row(
            Text(name if wide else shortened(name, LONGEST_NAME)),
            _count(outcome.attempts),
            *([_count(outcome.students)] if wide else []),
            *values,
            *([_per_attempt(outcome)] if wide else []),
            Text(str(outcome.outcome), STYLES[outcome.outcome]),
        )
    return table, _reasons(outcomes)


def shortened(name: str, longest: int) -> str:
    """The name, without its middle if it is long, because names often differ at the beginning or the end."""
    if len(name) <= longest:
        return name
    tail = longest // 3
    return f"{name[: longest - tail - 1]}…{name[-tail:]}"


def _reasons(outcomes: Sequence[SkillOutcome]) -> list[str]:
    grouped: dict[tuple[Outcome, str], list[str]] = {}
    for outcome in outcomes:
        if outcome.outcome is not Outcome.CALIBRATED:
            reason = _LOW_DATA.sub(r"fewer than \2 \1", outcome.reason or "no reason recorded")
            grouped.setdefault((outcome.outcome, reason), []).append(shown_key(outcome.skill_id))
    lines = []
    for (what, reason), names in sorted(grouped.items()):
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines.append(f"{what}, {printable(reason)}: {', '.join(names[:NAMED])}{more}")
    return ["", *lines] if lines else []


def night_totals(outcomes: Sequence[SkillOutcome], seconds: float) -> str:
    """The line of totals below the table."""
    counts = {kind: sum(outcome.outcome is kind for outcome in outcomes) for kind in STYLES}
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    attempts = sum(outcome.attempts or 0 for outcome in outcomes)
    likelihood = sum(outcome.log_likelihood or 0.0 for outcome in outcomes)
    return (
        f"{len(outcomes)} skills: {listed or 'none'}; {attempts:,} attempts, "
        f"log-likelihood {likelihood:,.1f}, {seconds:.1f} s"
    )


def items_totals(outcomes: Sequence[ItemsOutcome], seconds: float) -> str:
    """The line of totals for the items, and one line for each skill whose items failed."""
    counts = {status: sum(getattr(outcome, status) for outcome in outcomes) for status in ItemStatus}
    listed = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
    attempts = sum(outcome.attempts for outcome in outcomes)
    lines = [f"{sum(counts.values()):,} items: {listed or 'none'}; {attempts:,} attempts, {seconds:.1f} s"]
    lines += [
        f"failed: items of {shown_key(outcome.skill_id)}: {printable(outcome.reason or '')}"
        for outcome in outcomes
        if outcome.outcome is Outcome.FAILED
    ]
    return "\n".join(lines)


def _per_attempt(outcome: SkillOutcome) -> str:
    if not outcome.log_likelihood or not outcome.attempts:
        return ""
    return f"{outcome.log_likelihood / outcome.attempts:.4f}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
