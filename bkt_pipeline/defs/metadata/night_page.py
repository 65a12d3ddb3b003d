"""The page to read in the morning, as one Markdown document: what happened, what to do, and how good the numbers are."""

from collections import Counter
from collections.abc import Mapping, Sequence

import dagster as dg

from bkt_pipeline.calibration.comparison import gains_over
from bkt_pipeline.calibration.item_checks import ITEM_CHECKS
from bkt_pipeline.calibration.labels import in_markdown, labels
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.reasons import reason_lines
from bkt_pipeline.calibration.skill_checks import SKILL_CHECKS
from bkt_pipeline.calibration.window_checks import WINDOW_CHECKS
from bkt_pipeline.db.nights import SkillNight, compare_night, largest_moves
from bkt_pipeline.defs.metadata.night_figures import DRAWN_MOVES, evidence_picture, item_map, moves_picture
from bkt_pipeline.defs.notify.message import NightReport
from bkt_pipeline.model.bkt.curves import pool_reliability

TO_DO = {check.name: check.what_to_do for check in (*SKILL_CHECKS, *WINDOW_CHECKS, *ITEM_CHECKS)}
AGES = {
    "tonight": 0,
    "1 night": 1,
    "2 to 7": 7,
    "8 to 30": 30,
    "more than 30": 10**9,
}  # and the oldest age of each

Ages = Sequence[tuple[str, int | None, int]]  # source, age in nights, number of skills
Points = Mapping[str, Sequence[tuple[float, float]]]


def night_page(report: NightReport, ages: Ages | str, items: Points) -> dg.MetadataValue:
    """The page; `ages` may be the reason why they could not be read, and `items` are empty if none was calibrated."""
    called = labels([skill.skill_id for skill in report.skills], report.names)
    sections = {
        f"Night of {report.night}": _outcomes(report.skills),
        "What to do": _to_do(report, called),
        "Largest moves": _moves(report.skills, called),
        "Predicted against observed, and the estimators": _evidence(report.skills),
        "Items": item_map(items) if any(items.values()) else "No items were calibrated in this night.",
        "Age of the parameters that the backend reads": _ages(ages),
    }
    return dg.MetadataValue.md("\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items()))


def _outcomes(skills: Sequence[SkillNight]) -> str:
    counts = Counter(skill.outcome for skill in skills)
    rows = [[outcome.replace("_", " "), f"{counts[outcome]:,}"] for outcome in Outcome if counts[outcome]]
    attempts = sum(skill.attempts or 0 for skill in skills)
    return f"{len(skills):,} skills, {attempts:,} attempts.\n\n{_table(['outcome', 'skills'], rows)}"


def _to_do(report: NightReport, called: Mapping[str, str]) -> str:
    lines = [
        f"**{in_markdown(finding.name)}** fails: {in_markdown(str(finding.numbers.get('what_to_do', '')))}"
        for finding in report.findings
        if not finding.passed
    ]
    for check, skills in sorted(report.red_checks.items()):
        again = ", as after the night before" if check in report.red_before else ""
        advice = in_markdown(TO_DO.get(check.partition(" of ")[0], ""))
        lines.append(
            f"**{in_markdown(check)}** fails for {skills:,} skill{'s' * (skills > 1)}{again}: {advice}"
        )
    if report.without_outcome:
        lines.append(
            f"{report.without_outcome:,} skills have no outcome: their runs did not get to them, so look at the runs"
        )
    if not lines and not any(skill.outcome is Outcome.FAILED for skill in report.skills):
        lines.append("Nothing: no skill failed, and no check is red.")
    lines += map(in_markdown, reason_lines(report.skills, called))
    return "\n".join(f"- {line}" for line in lines)


def _moves(skills: Sequence[SkillNight], called: Mapping[str, str]) -> str:
    moved, moves = sum(skill.move > 0 for skill in skills), largest_moves(skills)
    if not moves:
        return "No parameter changed since the night before, or there is none."
    drawn = "all are" if moved <= DRAWN_MOVES else f"the {DRAWN_MOVES} largest are"
    some = f"{moved:,} skills have" if moved > 1 else "1 skill has"
    return f"{some} other parameters than before; {drawn} drawn.\n\n{moves_picture(moves, called)}"


def _evidence(skills: Sequence[SkillNight]) -> str:
    compared = compare_night(skills)
    counted = [skill.reliability for skill in skills if skill.reliability is not None]
    found = pool_reliability(counted)
    if compared is None or found.gap is None:
        return "Too few students to hold some out."
    estimators = Counter(skill.estimator for skill in skills if skill.held_out)
    published = str(estimators.most_common(1)[0][0])
    picture = evidence_picture(
        found, gains_over([skill.held_out for skill in skills], "constant"), published, len(counted)
    )
    apart = f"Predicted and observed shares are {100 * found.gap:.1f} percentage points apart, on average over the answers."
    return f"{apart} Of the estimators, {in_markdown(compared.sentence)}.\n\n{picture}"


def _ages(ages: Ages | str) -> str:
    if isinstance(ages, str):
        return f"The view current\\_params could not be read: {in_markdown(ages)}"
    counts: Counter[tuple[str, str]] = Counter()
    for source, nights, skills in ages:
        counts[source, _age(nights)] += skills
    columns = [*AGES, "unknown"]
    sources = sorted({source for source, _, _ in ages})
    rows = [[source, *(f"{counts[source, age]:,}" for age in columns)] for source in sources]
    known = max((nights for _, nights, _ in ages if nights is not None), default=None)
    oldest = "" if not known else f"\n\nThe oldest row is {known:,} nights old."
    return _table(["source", *columns], rows) + oldest


def _age(nights: int | None) -> str:
    if nights is None:
        return "unknown"
    return next(name for name, most in AGES.items() if nights <= most)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
