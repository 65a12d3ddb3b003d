"""A check: its name, its severity, what is true when it passes, what to do when it fails, and the function that decides.

A check is named for what is true when it passes. Deciding is a pure function of numbers; `defs/checks.py` shows the
findings in Dagster.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

SAME_STORED = 1e-6  # a platform's column may hold fewer digits than a double

Number = float | int | str
# Whether the check passes, and the numbers that decide it.
Decision = tuple[bool, Mapping[str, Number]]


@dataclass(frozen=True)
class Finding:
    """A check's verdict on one skill, with the numbers that it rests on."""

    name: str
    passed: bool
    error: bool = False
    numbers: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One check; calling it decides and returns a `Finding`.

    Parameters
    ----------
    name : str
        What is true when it passes.
    description : str
        The same as a sentence.
    what_to_do : str
        For the person who sees it fail.
    error : bool
        Whether failing is an error; else it is a warning.
    threshold : float or None
        What `decide` compares with, where that is one number; passed on to it, and shown.
    decide : callable
        Takes the numbers to judge and the threshold.
    """

    name: str
    description: str
    what_to_do: str
    error: bool
    threshold: float | None
    decide: Callable[..., Decision] = field(repr=False)

    def __call__(self, *arguments: object) -> Finding:
        given = arguments if self.threshold is None else (*arguments, self.threshold)
        passed, numbers = self.decide(*given)
        shown = {name: float(f"{n:.7g}") if isinstance(n, float) else n for name, n in numbers.items()}
        if self.threshold is not None:
            shown.setdefault("threshold", self.threshold)
        if not passed:
            shown["what_to_do"] = self.what_to_do
        return Finding(self.name, bool(passed), self.error, shown)


def check(
    description: str, *, what_to_do: str, error: bool = False, threshold: float | None = None
) -> Callable[[Callable[..., Decision]], Check]:
    """Make a `Check` of the function that decides it, under the function's name."""

    def of(decide: Callable[..., Decision]) -> Check:
        return Check(decide.__name__, description, what_to_do, error, threshold, decide)

    return of


def refusal(findings: Sequence[Finding]) -> str | None:
    """Why a calibration must not be published; None where it may."""
    failed = [
        f"{finding.name} ({_in_words(finding.numbers)})"
        for finding in findings
        if finding.error and not finding.passed
    ]
    return f"not published, because it fails {'; '.join(failed)}" if failed else None


def plain(value: float) -> Number:
    """The number, or its name if it is not finite: neither a plot nor JSON can hold it then."""
    return value if math.isfinite(value) else str(value)


def equal_as_stored(ours: float | None, theirs: float | None, *, near_zero: float = 0.0) -> bool:
    """Whether a stored number is the calibrated one, allowing for a column of fewer digits."""
    if ours is None or theirs is None:
        return ours is theirs
    return math.isclose(ours, theirs, rel_tol=SAME_STORED, abs_tol=near_zero)


def _in_words(numbers: Mapping[str, Number]) -> str:
    return ", ".join(
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in numbers.items()
        if name != "what_to_do"
    )
