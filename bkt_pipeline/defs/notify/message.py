"""What a message about a night says. It names skills, never a student, and quotes no error that may hold a secret."""

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bkt_pipeline.calibration.check import Finding
from bkt_pipeline.calibration.labels import counted, labels, one_line, printable, shortened
from bkt_pipeline.calibration.outcome import Outcome
from bkt_pipeline.calibration.reasons import reason_lines
from bkt_pipeline.db.nights import SkillNight, largest_moves
from bkt_pipeline.db.schema import PARAMETERS

MOVES = 5  # largest moves that are listed
LONGEST_LINE = 500  # characters; a reason may quote a long id


@dataclass(frozen=True)
class Message:
    """One message, as plain text."""

    title: str
    body: str
    kind: Literal["success", "warning", "failure"]


@dataclass(frozen=True)
class NightReport:
    """What a night's message is made from.

    Attributes
    ----------
    night
        The night's date.
    skills
        Every skill with an outcome in the night.
    names
        The names of the skills that have one.
    without_outcome
        The number of skills without an outcome.
    findings
        The findings on the night as a whole.
    red_checks
        For each check of a skill that fails with the severity error: the number of skills. Those of `red_before`
        were red after the night before too.
    """

    night: dt.date
    skills: Sequence[SkillNight]
    names: Mapping[str, str] = field(default_factory=dict)
    without_outcome: int = 0
    findings: Sequence[Finding] = ()
    red_checks: Mapping[str, int] = field(default_factory=dict)
    red_before: Mapping[str, int] = field(default_factory=dict)

    @property
    def calibrated(self) -> int:
        """The number of skills that were calibrated."""
        return sum(skill.outcome is Outcome.CALIBRATED for skill in self.skills)


def night_message(report: NightReport, page_url: str | None) -> Message:
    """The message at the end of a night."""
    counts = Counter(skill.outcome for skill in report.skills)
    listed = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])
    attempts = sum(skill.attempts or 0 for skill in report.skills)
    called = labels([skill.skill_id for skill in report.skills], report.names)
    red = [finding for finding in report.findings if finding.error and not finding.passed]
    if not report.calibrated:
        title = f"bkt_pipeline: the night of {report.night} calibrated nothing"
    else:
        title = f"bkt_pipeline: night of {report.night}: {listed}"
    totals = [f"{counted(len(report.skills), 'skill')}: {listed or 'none'}; {attempts:,} attempts"]
    if report.without_outcome:
        totals.append(f"{report.without_outcome} more skills have no outcome; their runs did not get to them")
    paragraphs = [
        totals,
        [f"{finding.name} failed: {finding.numbers.get('what_to_do', '')}" for finding in red],
        _checks(report),
        reason_lines(report.skills, called),
        _moves(report.skills, called),
        [page_url] if page_url else [],
    ]
    failed = red or report.without_outcome or counts[Outcome.FAILED] or not report.calibrated
    warned = any(not finding.passed for finding in report.findings)
    return Message(title, _text(paragraphs), "failure" if failed else "warning" if warned else "success")


def failed_message(night: str, what: str, reason: str, run_url: str | None = None) -> Message:
    """The message about a night that failed; `what` failed for this reason."""
    title = f"bkt_pipeline: the night of {night} failed"
    return Message(
        title, _text([[f"{what} failed: {one_line(reason)}"], [run_url] if run_url else []]), "failure"
    )


def late_message(due: dt.datetime, state: str, ui_url: str | None) -> Message:
    """The message about a night that had not started when it was due."""
    title = f"bkt_pipeline: the night of {due.date()} did not start by {due:%H:%M} UTC"
    todo = "check that the daemon runs, that the schedule nightly_bkt is on, and that runs are not stuck in the queue"
    return Message(title, _text([[f"{state}; {todo}"], [ui_url] if ui_url else []]), "failure")


def _checks(report: NightReport) -> list[str]:
    lines = []
    for check, skills in sorted(report.red_checks.items()):
        again = " (red the night before too)" if check in report.red_before else " (turned red)"
        lines.append(f"check {check}: fails for {skills} skill{'s' if skills > 1 else ''}{again}")
    return lines


def _moves(skills: Sequence[SkillNight], called: Mapping[str, str]) -> list[str]:
    lines = []
    for skill in largest_moves(skills)[:MOVES]:
        assert skill.params is not None
        assert skill.previous is not None
        place = skill.moved_most
        before, after = skill.previous.values[place], skill.params.values[place]
        lines.append(f"{called[skill.skill_id]}: {tuple(PARAMETERS)[place]} {before:g} → {after:g}")
    return ["largest moves:", *lines] if lines else []


def _text(paragraphs: Sequence[Sequence[str]]) -> str:
    # An @ in a name must not call anyone in a chat.
    return "\n\n".join(
        "\n".join(shortened(printable(line), LONGEST_LINE).replace("@", "(at)") for line in lines)
        for lines in paragraphs
        if lines
    )
