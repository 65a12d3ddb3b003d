"""The class of all checks, and what their findings mean for a calibration.

A check is named for what is true when it passes. Its decision is a pure function of numbers; `defs/checks.py` shows
the findings in Dagster.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

SAME_STORED = 1e-6  # relative; a platform's column may have fewer digits than a double

Number = float | int | str
# Whether the check passes, and the numbers behind that decision.
Decision = tuple[bool, Mapping[str, Number]]


@dataclass(frozen=True)
class Finding:
    """The result of one check for one skill, with the numbers behind it."""

    name: str
    passed: bool
    error: bool = False
    numbers: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One check; calling it returns a `Finding`.

    Parameters
    ----------
    name : str
        What is true when it passes.
    description : str
        The same as a sentence.
    what_to_do : str
        Instructions for the person who sees it fail.
    error : bool
        Whether a failure is an error; otherwise it is a warning.
    threshold : float or None
        The number that `decide` compares with, if there is exactly one; passed to it as the last argument, and shown.
    decide : callable
        Takes the values to check and the threshold; returns a `Decision`.
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
    """Turn the decorated function into a `Check` of the same name."""

    def of(decide: Callable[..., Decision]) -> Check:
        return Check(decide.__name__, description, what_to_do, error, threshold, decide)

    return of


def refusal(findings: Sequence[Finding]) -> str | None:
    """Why a calibration must not be published; None if it may be."""
    failed = [
        f"{finding.name} ({_in_words(finding.numbers)})"
        for finding in findings
        if finding.error and not finding.passed
    ]
    return f"not published, because it fails {'; '.join(failed)}" if failed else None


def plain(value: float) -> Number:
    """The number, or its name if it is not finite, because plots and JSON cannot hold it."""
    return value if math.isfinite(value) else str(value)


def equal_as_stored(ours: float | None, theirs: float | None, *, near_zero: float = 0.0) -> bool:
    """Whether a stored number equals the calibrated one, allowing for a column with fewer digits."""
    if ours is None or theirs is None:
        return ours is theirs
    return math.isclose(ours, theirs, rel_tol=SAME_STORED, abs_tol=near_zero)


def _in_words(numbers: Mapping[str, Number]) -> str:
    return ", ".join(
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in numbers.items()
        if name != "what_to_do"
    )
