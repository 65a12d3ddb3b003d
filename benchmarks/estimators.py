"""Which estimator predicts real students best, by the number of attempts that a skill was fitted to.

    python benchmarks/estimators.py --write

prints a table for glops42 (the file that BKT_GLOPS_FILE or --glops names) and writes it to estimators.md. The students of
a skill are split into five folds. Each fold is predicted by parameters that were fitted to students of the other four, drawn
in a fixed random order until they have the given number of attempts.
"""

import argparse
import zlib
from pathlib import Path

import numpy as np
from answers import GLOPS, glops

from bkt_pipeline import model
from bkt_pipeline.model import SHIPPED_PRIOR, AttemptWindow, BktParams, log_likelihood

FOLDS = 5
SIZES = (20, 50, 100, 200, 500, 2000, None)
ROWS = {
    "default": "default parameters (.3, .1, .1, .2)",
    "grid": "grid",
    "polished": "polished",
    "pooled": "**pooled, shipped prior**",
    "school": "**pooled, school prior**",
}
# How much pooled must gain over the grid, in mnat per answer, and how many skills may lose more than MARGIN from 100
# attempts on.
ASKED = {50: 15.0, 100: 5.0, 200: 2.5, None: 0.0}
MARGIN = 5.0
MAY_LOSE = 0.05
HEAD = """# Which estimator predicts best

glops42: {attempts:,} real answers to {skills} skills, {folds} folds by student. Each skill is fitted to students of four folds,
drawn until they have the given number of attempts (the last student's are cut), and predicts the answers of the fifth. The
tables show the held-out log-likelihood per answer in nats: the mean over folds, then over the skills with that many
attempts. The school's prior is learned from the attempts that the skills are fitted to. mnat: 0.001 nats per answer, with
the standard error over skills.

Made by `python benchmarks/estimators.py --write`.

"""

Scores = dict[tuple[int | None, str], dict[str, list[float]]]


def students_of(window: AttemptWindow, chosen: np.ndarray, attempts: int | None) -> AttemptWindow:
    """The window of the chosen students, in that order, cut off at this number of attempts."""
    parts = [slice(window.offsets[i], window.offsets[i + 1]) for i in chosen]
    lengths = np.array([part.stop - part.start for part in parts])
    if attempts is not None:
        enough = int(np.searchsorted(np.cumsum(lengths), attempts)) + 1
        parts, lengths = parts[:enough], lengths[:enough]
        lengths[-1] -= max(int(lengths.sum()) - attempts, 0)
    pieces = [slice(part.start, part.start + length) for part, length in zip(parts, lengths, strict=True)]
    return AttemptWindow(
        window.skill_id,
        tuple(window.student_ids[i] for i in chosen[: len(pieces)]),
        np.concatenate([window.responses[piece] for piece in pieces]),
        np.concatenate([window.answered_at[piece] for piece in pieces]),
        np.append(0, np.cumsum(lengths)),
        window.as_of,
        window.window_days,
    )


def measure(windows: dict[str, AttemptWindow]) -> Scores:
    """Nats per held-out answer of each fold, by size and estimator, and by skill."""
    orders = {
        key: np.random.default_rng(zlib.crc32(key.encode())).permutation(window.n_students)
        for key, window in windows.items()
    }
    scores: Scores = {(size, row): {} for size in SIZES for row in ROWS}
    for fold in range(FOLDS):
        held = {key: students_of(windows[key], order[fold::FOLDS], None) for key, order in orders.items()}
        rest = {
            key: np.concatenate([order[other::FOLDS] for other in range(FOLDS) if other != fold])
            for key, order in orders.items()
        }
        for key, chosen in rest.items():
            np.random.default_rng([fold, zlib.crc32(key.encode())]).shuffle(chosen)
        for size in SIZES:
            known = {key: students_of(windows[key], chosen, size) for key, chosen in rest.items()}
            known = {key: window for key, window in known.items() if window.n_attempts >= (size or 0)}
            for key, params in fitted(known).items():
                for row, each in params.items():
                    value = log_likelihood(held[key], each) / held[key].n_attempts
                    scores[size, row].setdefault(key, []).append(value)
    return scores


def fitted(windows: dict[str, AttemptWindow]) -> dict[str, dict[str, BktParams]]:
    found: dict[str, dict[str, BktParams]] = {key: {"default": model.SAFE_DEFAULT} for key in windows}
    for name, prior in (("pooled", SHIPPED_PRIOR), ("school", model.learn_prior(windows))):
        for key, fit in model.calibrate_all(windows, prior=prior, polished=True):
            if isinstance(fit, Exception):
                raise fit
            found[key] |= {name: fit.pooled, "grid": fit.params, "polished": fit.polished}
    return found


def report(scores: Scores) -> tuple[list[str], list[str]]:
    """The lines of the tables, and the expectations that they do not meet."""
    columns = ["all" if size is None else f"{size:,}" for size in SIZES]
    means = {case: np.array([np.mean(folds) for folds in skills.values()]) for case, skills in scores.items()}
    rule = f"|---|{'---:|' * len(columns)}"
    sizes = [str(len(means[size, "grid"])) for size in SIZES]
    lines = [f"| attempts | {' | '.join(columns)} |", rule, f"| skills | {' | '.join(sizes)} |"]
    for row, title in ROWS.items():
        lines.append(f"| {title} | {' | '.join(f'{means[size, row].mean():.4f}' for size in SIZES)} |")
    wrong = []
    lines += ["", f"| less the grid, mnat | {' | '.join(columns)} |", rule]
    for row in ("polished", "pooled", "school"):
        gains = {size: 1000 * (means[size, row] - means[size, "grid"]) for size in SIZES}
        cells = [f"{gain.mean():+.1f} ± {gain.std(ddof=1) / gain.size**0.5:.1f}" for gain in gains.values()]
        lines.append(f"| {ROWS[row]} | {' | '.join(cells)} |")
        lose = {size: float(np.mean(gain < -MARGIN)) for size, gain in gains.items()}
        shares = " | ".join(f"{share:.0%}" for share in lose.values())
        lines.append(f"| skills that lose more than {MARGIN:g} | {shares} |")
        if row == "polished":
            continue
        wrong += [f"{row}: too little at {n}" for n, least in ASKED.items() if gains[n].mean() < least]
        wrong += [
            f"{row}: {share:.0%} of skills lose at {size}"
            for size, share in lose.items()
            if (size is None or size >= 100) and share > MAY_LOSE
        ]
        if means[20, row].mean() <= means[20, "default"].mean():
            wrong.append(f"{row}: not better than the default parameters at 20")
    return lines, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--glops", type=Path, default=GLOPS, help="the file glops42.csv.gz")
    parser.add_argument("--write", action="store_true", help="write estimators.md beside this file")
    arguments = parser.parse_args()
    if not arguments.glops.exists():
        raise SystemExit(f"{arguments.glops} is missing; name the file of real answers with --glops FILE")
    model.warm_up()
    windows = glops(arguments.glops)
    lines, wrong = report(measure(windows))
    attempts = sum(window.n_attempts for window in windows.values())
    text = HEAD.format(attempts=attempts, skills=len(windows), folds=FOLDS) + "\n".join(lines)
    print(text)
    if arguments.write:
        Path(__file__).with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    if wrong:
        raise SystemExit("it does not show what it must: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
