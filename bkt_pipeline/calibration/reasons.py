"""Why skills were not calibrated, as lines of text: one for each reason, with the skills that it concerns."""

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

from bkt_pipeline.calibration.labels import one_line
from bkt_pipeline.calibration.outcome import Outcome

NAMED = 8  # skills listed for one reason

_LOW_DATA = re.compile(r"\d+ (graded attempts in \d+ days), fewer than (\d+)")


class HasOutcome(Protocol):
    """A skill with its outcome in a night."""

    @property
    def skill_id(self) -> str: ...
    @property
    def outcome(self) -> Outcome: ...
    @property
    def reason(self) -> str | None: ...


def reason_lines(skills: Iterable[HasOutcome], labels: Mapping[str, str]) -> list[str]:
    """One line for each outcome and reason, failures first; calibrated skills need none."""
    grouped: dict[tuple[Outcome, str], list[str]] = {}
    for skill in skills:
        if skill.outcome is not Outcome.CALIBRATED:
            reason = _LOW_DATA.sub(r"fewer than \2 \1", skill.reason or "no reason recorded")
            grouped.setdefault((skill.outcome, reason), []).append(labels[skill.skill_id])
    lines = []
    for (what, reason), names in sorted(grouped.items(), key=_failures_first):
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines.append(f"{what}, {one_line(reason)}: {', '.join(names[:NAMED])}{more}")
    return lines


def _failures_first(group: tuple[tuple[Outcome, str], list[str]]) -> tuple[bool, Outcome, str]:
    (what, reason), _ = group
    return what is not Outcome.FAILED, what, reason
