"""The definitions that Dagster loads: `defs`, assembled when it is first read, because its names are settings."""

from functools import cache

import dagster as dg

from bkt_pipeline.defs.assembly import build_definitions

__all__ = ["build_definitions"]


# Dagster looks through dir() for them, and reading the environment at import would surprise any other importer.
def __dir__() -> list[str]:
    return [*globals(), "defs"]


def __getattr__(name: str) -> dg.Definitions:
    if name != "defs":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _defs()


@cache
def _defs() -> dg.Definitions:
    return build_definitions()
