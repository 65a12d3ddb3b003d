"""The contract's formulas in exact fractions, and the test vectors made from them.

    python -m bkt_pipeline_tests.helpers.exact_update

writes `bkt_pipeline/model/bkt/update_vectors.json` again. It imports nothing of the model.
"""

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import bkt_pipeline

FILE = Path(bkt_pipeline.__file__).parent / "model" / "bkt" / "update_vectors.json"
LOWEST, HIGHEST = 1e-12, 1 - 1e-12
NAMES = ("p_l0", "p_transit", "p_slip", "p_guess")

PARAMS = [
    (0.3, 0.1, 0.1, 0.2),
    (0.53, 0.056, 0.196, 0.269),
    (0.05, 0.95, 0.5, 0.45),
    (0.3, 0.1, 0.0, 0.2),
    (0.3, 0.1, 0.1, 0.0),
    (0.0, 0.0, 0.0, 0.0),
    (1.0, 1.0, 0.0, 0.5),
]
STATES = [None, 0.0, 1e-15, 1e-12, 0.123456789, 0.5, 0.95, 1 - 1e-10, 1 - 1e-12, 1.0]
CHAIN = [1] * 12 + [0, 0, None, 1, 0] + [1] * 9 + [0] * 6
REFUSED = [
    {"p_known": 1.5},
    {"p_known": -0.1},
    {"p_l0": 1.1},
    {"p_transit": -0.1},
    {"p_slip": 0.6},
    {"p_guess": 0.51},
    {"p_slip": 0.5, "p_guess": 0.5},
]


def vector(state: float | None, right: bool | None, params: tuple[float, ...]) -> dict[str, Any]:
    prior, transit, slip, guess = map(Fraction, params)
    given = prior if state is None else Fraction(state)
    known = min(max(given, Fraction(LOWEST)), Fraction(HIGHEST))
    p_right = given * (1 - slip) + (1 - given) * guess
    after = known
    if right is not None:
        if_known, if_unknown = (1 - slip, guess) if right else (slip, 1 - guess)
        seen = known * if_known / (known * if_known + (1 - known) * if_unknown)
        after = min(max(seen + (1 - seen) * transit, Fraction(LOWEST)), Fraction(HIGHEST))
    return {
        "p_known": state,
        "right": right,
        **dict(zip(NAMES, params, strict=True)),
        "p_right": float(p_right),
        "p_known_after": float(after),
    }


def vectors() -> dict[str, Any]:
    cases = [
        vector(state, right, params)
        for params, state, right in itertools.product(PARAMS, STATES, (True, False, None))
    ]
    state = None
    for answer in CHAIN:
        cases.append(vector(state, None if answer is None else bool(answer), (0.1, 0.05, 0.05, 0.45)))
        state = cases[-1]["p_known_after"]
    usual = {"p_known": 0.5, "right": True, **dict(zip(NAMES, PARAMS[0], strict=True))}
    return {
        "what": "Test vectors for the update of Bayesian Knowledge Tracing: p_right is P(right) before the answer, "
        "p_known_after is P(known) after it. right null: not graded. p_known null: no answer yet. The cases under "
        "refused are errors.",
        "relative_tolerance": 1e-15,
        "lowest": LOWEST,
        "highest": HIGHEST,
        "cases": cases,
        "refused": [usual | change for change in REFUSED],
    }


def as_json() -> str:
    """One case in each line."""
    given = vectors()
    parts = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in given.items() if name not in LISTS]
    for name in LISTS:
        lines = ",\n".join(json.dumps(case) for case in given[name])
        parts.append(f"{json.dumps(name)}: [\n{lines}\n]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


LISTS = ("cases", "refused")

if __name__ == "__main__":
    FILE.write_text(as_json())
