"""Nightly calibration of Bayesian Knowledge Tracing parameters as a Dagster asset graph."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bkt_pipeline.defs.component import BktCalibration

__version__ = "0.1.0"
__all__ = ["BktCalibration", "__version__"]


# The component is imported when it is first read, because it loads Dagster, and `bkt_pipeline.model` needs none of it.
# Tools that list a package's components look through dir().
def __dir__() -> list[str]:
    return [*globals(), "BktCalibration"]


def __getattr__(name: str) -> Any:
    if name != "BktCalibration":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bkt_pipeline.defs.component import BktCalibration

    return BktCalibration
