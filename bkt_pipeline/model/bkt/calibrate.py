"""Everything that a night fits, for one skill or for many at once."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import as_completed
from functools import partial
from threading import Lock
from time import perf_counter

from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.model.attempts import AttemptWindow
from bkt_pipeline.model.bkt.evidence import evidence
from bkt_pipeline.model.bkt.fit import Estimator, SkillFit
from bkt_pipeline.model.bkt.grid import DEFAULT_GRID, Grid
from bkt_pipeline.model.bkt.optimum import logits
from bkt_pipeline.model.bkt.polish import polish
from bkt_pipeline.model.bkt.pooled import pooled
from bkt_pipeline.model.bkt.posterior import posteriors
from bkt_pipeline.model.bkt.prior import SHIPPED_PRIOR, SchoolPrior
from bkt_pipeline.model.bkt.scores import Surfaces, scores_of, sides
from bkt_pipeline.model.bkt.search import search
from bkt_pipeline.model.bkt.uncertainty import uncertainty
from bkt_pipeline.model.params import SAFE_DEFAULT
from bkt_pipeline.model.threads import thread_pool

__all__ = ["calibrate", "calibrate_all", "warm_up"]

_warming_up = Lock()


def calibrate(
    window: AttemptWindow,
    grid: Grid = DEFAULT_GRID,
    *,
    prior: SchoolPrior = SHIPPED_PRIOR,
    polished: bool = False,
    estimator: Estimator = "grid",
    scored: bool = False,
) -> SkillFit:
    """Fit one skill: the grid's winner, the pooled estimate, and their uncertainty.

    Parameters
    ----------
    window : AttemptWindow
        If it is empty, the pooled estimate is the prior's mode, and the grid's winner is the safe default.
    grid : Grid
        The points that the search evaluates.
    prior : SchoolPrior
        The prior of the pooled estimate and the posterior intervals. The grid's winner and the polished optimum do
        not depend on it.
    polished : bool
        Whether the fit also contains the continuous optimum.
    estimator : {"grid", "polished", "pooled"}
        Which estimate is `published`; the flags and the intervals refer to it. "polished" implies `polished`.
    scored : bool
        Whether to also fit four fifths of the students and evaluate on the rest, as `held_out_scores` does.

    Returns
    -------
    SkillFit

    References
    ----------
    Corbett & Anderson (1994), DOI 10.1007/BF01099821.

    Examples
    --------
    >>> from bkt_pipeline.model import BktParams
    >>> from bkt_pipeline.model.simulate import simulate
    >>> truth = BktParams(0.3, 0.1, 0.1, 0.2)
    >>> fit = calibrate(simulate(truth, n_students=2000, seed=1))
    >>> fit.params.values
    (0.3, 0.1, 0.1, 0.2)
    >>> [round(value, 3) for value in fit.pooled.values]
    [0.324, 0.097, 0.103, 0.192]
    """
    started = perf_counter()
    held = sides(window) if scored else None
    everyone, fitted = Surfaces.of(window, grid, held)
    answers, coarse = everyone.answers, everyone.coarse
    params, surface = search(window.responses, window.offsets, answers, grid, everyone.grid)
    pool = pooled(window, prior, answers=answers, coarse=coarse)
    priors = (prior,) if prior == SHIPPED_PRIOR else (prior, SHIPPED_PRIOR)
    own, fine, found = posteriors(window, answers, coarse, logits(pool.values), priors)
    best = polish(window, params, grid=grid, answers=answers, coarse=coarse) if surface is not None else None
    candidates = {"grid": params, "polished": best or params, "pooled": pool}
    published = candidates[estimator]
    return SkillFit(
        skill_id=window.skill_id,
        params=params,
        n_attempts=window.n_attempts,
        n_students=window.n_students,
        n_distinct=answers.counts.size,
        ungraded=window.ungraded,
        as_of=window.as_of,
        uncertainty=uncertainty(found[0], own, fine, coarse, grid, surface, best, (pool, published)),
        evidence=evidence(window, published),
        polished=best if polished or estimator == "polished" else None,
        pooled=pool,
        moments=found[-1].moments if window.n_students else None,
        held_out=None if held is None else scores_of(window, held, fitted, prior, grid),
        estimator=estimator,
        seconds=perf_counter() - started,
    )


def calibrate_all(
    windows: Mapping[str, AttemptWindow],
    *,
    grid: Grid = DEFAULT_GRID,
    threads: int | None = None,
    prior: SchoolPrior = SHIPPED_PRIOR,
    polished: bool = False,
    estimator: Estimator = "grid",
    scored: bool = False,
) -> Iterator[tuple[str, SkillFit | Exception]]:
    """Calibrate many skills on all cores; yield each result as soon as it is ready.

    The results do not depend on the number of threads, but their order does.

    Parameters
    ----------
    windows : mapping of str to AttemptWindow
        By skill; the keys are returned with the results.
    grid : Grid
        The points that the search evaluates.
    threads : int, optional
        How many skills to fit at a time; by default, the number of cores of this process.
    prior, polished, estimator, scored
        As in `calibrate`.

    Yields
    ------
    (key, SkillFit or Exception)
        If a skill fails, the exception is yielded instead of its fit and does not affect the others.

    Raises
    ------
    InvalidSettings
        If `threads` is below 1.

    Examples
    --------
    >>> from bkt_pipeline.model import BktParams
    >>> from bkt_pipeline.model.simulate import simulate
    >>> truth = BktParams(0.3, 0.1, 0.1, 0.2)
    >>> windows = {str(n): simulate(truth, n_students=n, seed=1) for n in (500, 1000)}
    >>> sorted((key, fit.n_students) for key, fit in calibrate_all(windows))
    [('1000', 1000), ('500', 500)]
    """
    if threads is not None and threads < 1:
        raise InvalidSettings(f"threads is {threads}; need at least 1")
    largest_first = sorted(windows, key=lambda key: -windows[key].n_attempts)
    fit = partial(calibrate, grid=grid, prior=prior, polished=polished, estimator=estimator, scored=scored)
    return _calibrate_all(windows, largest_first, fit, threads)


def _calibrate_all(
    windows: Mapping[str, AttemptWindow],
    order: list[str],
    fit: Callable[[AttemptWindow], SkillFit],
    threads: int | None,
) -> Iterator[tuple[str, SkillFit | Exception]]:
    with thread_pool(threads) as pool:
        futures = {pool.submit(fit, windows[key]): key for key in order}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except Exception as error:
                yield futures[future], error


def warm_up(on_compile: Callable[[], None] | None = None) -> None:
    """Load the compiled kernels; if they are not in this machine's cache yet, compile them (about 15 seconds).

    Calling it is optional. It avoids the wait at the first fit, and lets the caller report what it is waiting for. If a
    thread is in it already, another one waits for it.

    Parameters
    ----------
    on_compile : callable, optional
        Called once, just before compiling, and only if something has to be compiled.

    Examples
    --------
    >>> import sys
    >>> warm_up(lambda: print("compiling the kernels, once on this machine", file=sys.stderr))
    """
    from numba.core import event

    from bkt_pipeline.model.simulate import simulate

    class Announce(event.Listener):
        announced = False

        def on_start(self, event: object) -> None:
            if not self.announced and on_compile is not None:
                on_compile()
            self.announced = True

        def on_end(self, event: object) -> None:
            pass

    with _warming_up, event.install_listener("numba:compile", Announce()):
        calibrate(simulate(SAFE_DEFAULT, n_students=30, seed=1), scored=True)
