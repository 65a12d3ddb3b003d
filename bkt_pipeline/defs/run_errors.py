"""Why a run failed: the errors behind those that Dagster wraps around them."""

from typing import Any

import dagster as dg

from bkt_pipeline.errors import BktError, DatabaseUnavailable, WindowStoreUnavailable


def cause(result: dg.ExecuteInProcessResult) -> str:
    """Why the run failed, in one line."""
    error = _first(result)
    if error is None:
        return f"run {result.run_id} failed"
    message: str = error.message
    line = message.strip().splitlines()[0].removeprefix(f"{BktError.__module__}.")
    # A failure that we raise ourselves says it all without its class.
    return line.removeprefix(f"{dg.Failure.__module__}.{dg.Failure.__name__}: ")


def was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether Ctrl-C or SIGTERM ended the run."""
    error = _first(result)
    return error is not None and error.cls_name in ("DagsterExecutionInterruptedError", "KeyboardInterrupt")


def what_was_lost(result: dg.ExecuteInProcessResult) -> type[BktError] | None:
    """The error's type if it would fail every other run of the night too; otherwise None."""
    error = _first(result)
    lost = {kind.__name__: kind for kind in (DatabaseUnavailable, WindowStoreUnavailable)}
    return lost.get(error.cls_name) if error is not None else None


def _first(result: dg.ExecuteInProcessResult) -> Any:
    """The innermost error of the first failed step."""
    errors = [root(event.step_failure_data.error) for event in result.all_events if event.is_step_failure]
    return next((error for error in errors if error is not None), None)


def root(error: Any) -> Any:
    """The innermost error, without those that Dagster wraps around it."""
    while error is not None and error.cause is not None:
        error = error.cause
    return error
