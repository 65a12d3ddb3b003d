"""The exact search: every point of the grid, for one skill or for many at once."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bkt_pipeline.errors import InvalidAttempts, InvalidSettings
from bkt_pipeline.model.attempts import AttemptObservation, AttemptWindow, sequences_of
from bkt_pipeline.model.bkt.answers import DistinctSequences
from bkt_pipeline.model.bkt.evidence import evidence
from bkt_pipeline.model.bkt.fit import SAFE_DEFAULT, SkillFit
from bkt_pipeline.model.bkt.grid import DEFAULT_GRID, Grid
from bkt_pipeline.model.bkt.likelihood import exact_sum
from bkt_pipeline.model.bkt.polish import polish
from bkt_pipeline.model.bkt.uncertainty import uncertainty
from bkt_pipeline.model.params import BktParams

__all__ = ["calibrate", "calibrate_all", "calibrate_skill", "warm_up"]

T = TypeVar("T")

# Two log-likelihoods are a tie within this share of their size.
TIE = 1e-12
# How far the surface may be from the sum without rounding, as a share (measured: 1e-15) and for sums near 0.
_SURFACE_ERROR = 1e-10


def calibrate(window: AttemptWindow, grid: Grid = DEFAULT_GRID, *, polished: bool = False) -> SkillFit:
    """Find the grid point under which the window's answers are most probable.

    Every point is evaluated. The winner and all points that could tie with it are then evaluated again
    without rounding error; among ties (1e-12 relative) the lexicographically smallest parameters win.

    Parameters
    ----------
    window : AttemptWindow
        At least one student.
    grid : Grid
        Where to look.
    polished : bool
        Whether to climb on to the continuous optimum; the grid's winner is `params` all the same.

    Returns
    -------
    SkillFit

    Raises
    ------
    InvalidAttempts
        If the window is empty.

    References
    ----------
    Corbett & Anderson (1994), DOI 10.1007/BF01099821.

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> truth = BktParams(0.3, 0.1, 0.1, 0.2)
    >>> calibrate(simulate(truth, n_students=2000, seed=1)).params.values
    (0.3, 0.1, 0.1, 0.2)
    """
    started = perf_counter()
    if window.n_students == 0:
        raise InvalidAttempts(
            f"skill {window.skill_id!r} has no graded answer in the window; there is nothing to calibrate"
        )
    answers = DistinctSequences.of(window)
    params, sure, finer = SAFE_DEFAULT, None, None
    if grid.n_points:
        surface = answers.surface(np.array(grid.p_l0.values)[:, None], grid.lanes).reshape(grid.shape)
        params = _winner(surface.reshape(-1), window, answers, grid)
        sure = uncertainty(answers, grid, surface)
        if polished:
            finer = polish(window, params, grid=grid, answers=answers)
    return SkillFit(
        skill_id=window.skill_id,
        params=params,
        n_attempts=window.n_attempts,
        n_students=window.n_students,
        n_distinct=answers.counts.size,
        ungraded=window.ungraded,
        as_of=window.as_of,
        uncertainty=sure,
        evidence=evidence(window, params, grid),
        polished=finer,
        seconds=perf_counter() - started,
    )


def _winner(
    surface: npt.NDArray[np.float64],
    window: AttemptWindow,
    answers: DistinctSequences,
    grid: Grid,
) -> BktParams:
    from bkt_pipeline.model.kernels.sequences import log_probabilities

    students, counts = answers.students, answers.counts
    best = float(surface.max())
    candidates = np.flatnonzero(surface >= best - (TIE + _SURFACE_ERROR) * abs(best) - _SURFACE_ERROR)
    exact = {
        int(index): exact_sum(
            log_probabilities(window.responses, window.offsets, students, *grid.point(int(index))), counts
        )
        for index in candidates
    }
    best = max(exact.values())
    first = min(index for index, value in exact.items() if value >= best - TIE * abs(best))
    return BktParams(*grid.point(first), log_likelihood=exact[first])


def calibrate_all(
    windows: Mapping[str, AttemptWindow],
    *,
    grid: Grid = DEFAULT_GRID,
    threads: int | None = None,
    polished: bool = False,
) -> Iterator[tuple[str, SkillFit | Exception]]:
    """Calibrate many skills on all cores, yielding each as soon as it is done.

    The results do not depend on the number of threads; their order does.

    Parameters
    ----------
    windows : mapping of str to AttemptWindow
        By skill; the keys come back with the results.
    grid : Grid
        Where to look.
    threads : int, optional
        How many skills at a time; as many as this process has cores if not given.
    polished : bool
        As in `calibrate`.

    Yields
    ------
    (key, SkillFit or Exception)
        What went wrong with a skill is yielded in its place; it never stops the others.

    Raises
    ------
    InvalidSettings
        If `threads` is below 1.

    Examples
    --------
    >>> from bkt_pipeline.model.simulate import simulate
    >>> truth = BktParams(0.3, 0.1, 0.1, 0.2)
    >>> windows = {str(n): simulate(truth, n_students=n, seed=1) for n in (500, 1000)}
    >>> sorted((key, fit.n_students) for key, fit in calibrate_all(windows))
    [('1000', 1000), ('500', 500)]
    """
    if threads is None:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise InvalidSettings(f"threads is {threads}; need at least 1")
    largest_first = sorted(windows, key=lambda key: -windows[key].n_attempts)
    fits = _calibrate_all(windows, largest_first, partial(calibrate, grid=grid, polished=polished), threads)
    return _on_one_blas_thread(fits) if polished else fits


def _on_one_blas_thread(fits: Iterator[T]) -> Iterator[T]:
    """L-BFGS-B hands vectors of four numbers to BLAS, whose threads then spin for more: on a busy machine that
    makes the polish some four times as slow."""
    import scipy.optimize  # noqa: F401  only a BLAS that is loaded can be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield from fits


def _calibrate_all(
    windows: Mapping[str, AttemptWindow],
    order: list[str],
    fit: Callable[[AttemptWindow], SkillFit],
    threads: int,
) -> Iterator[tuple[str, SkillFit | Exception]]:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="calibrate")
    try:
        futures = {pool.submit(fit, windows[key]): key for key in order}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except Exception as error:
                yield futures[future], error
    finally:
        pool.shutdown(cancel_futures=True)


def calibrate_skill(attempts: Sequence[AttemptObservation], grid: Grid = DEFAULT_GRID) -> BktParams:
    """Calibrate one skill from a list of answers, in any order.

    Parameters
    ----------
    attempts : sequence of AttemptObservation
        Answers of one skill. Each student's are ordered by time; equal times keep the order of the list.
    grid : Grid
        Where to look.

    Returns
    -------
    BktParams
        With their log-likelihood in nats.

    Raises
    ------
    InvalidAttempts
        If the list is empty, mixes skills, or holds something else than attempts.

    Examples
    --------
    >>> answers = [(0, 0, 1, 1), (0, 1, 1), (1, 1, 1), (0, 0)]
    >>> attempts = [AttemptObservation(f"s{s}", "fractions-add", answer, 60.0 * i)
    ...             for s, sequence in enumerate(answers) for i, answer in enumerate(sequence)]
    >>> params = calibrate_skill(attempts)
    >>> params.values, round(params.log_likelihood, 3)
    ((0.25, 0.55, 0.05, 0.05), -5.317)
    """
    skill_id, student_ids, responses, answered_at, offsets = sequences_of(attempts)
    first, last = int(answered_at.min()), int(answered_at.max())
    window = AttemptWindow(
        str(skill_id),
        student_ids,
        responses,
        answered_at,
        offsets,
        as_of=datetime.fromtimestamp(math.ceil(last / 1e6), UTC),
        window_days=(last - first) // 86_400_000_000 + 2,
    )
    return calibrate(window, grid).params


def warm_up(on_compile: Callable[[], None] | None = None) -> None:
    """Load the compiled kernels, or compile them where this machine has none in its cache yet (some seconds).

    Calling it is never needed; it takes the waiting out of the first fit and lets a caller say what it waits
    for.

    Parameters
    ----------
    on_compile : callable, optional
        Called once, just before compiling, and only if something has to be compiled.

    Examples
    --------
    >>> warm_up(lambda: print("compiling the kernels, once on this machine", file=sys.stderr))
    """
    from numba.core import event

    class Announce(event.Listener):
        told = False

        def on_start(self, event: object) -> None:
            if not self.told and on_compile is not None:
                on_compile()
            self.told = True

        def on_end(self, event: object) -> None:
            pass

    with event.install_listener("numba:compile", Announce()):
        calibrate_skill([AttemptObservation("warm", "up", True, 0.0)])
