"""How kernels are compiled: to a cache on disk, and without the GIL.

numba keeps the cache in NUMBA_CACHE_DIR if it is set, else beside the source, else in the user's cache folder. If none of
them is writable, each process compiles the kernels again. Fast-math is off, so each sum is rounded as written, on every
machine.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Unused wrappers are left out. This and inlining save a third of the compile time.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def kernel(function: _Function) -> _Function:
    """Decorator for a function that Python calls: compiled at the first call, or loaded from the cache."""
    try:
        return cast(_Function, njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:
        # numba raises this if it finds no writable folder for the cache.
        return cast(_Function, njit(**_OPTIONS)(function))


def inlined(function: _Function) -> _Function:
    """Decorator for a part of kernels in the same file, inlined into each caller."""
    return cast(_Function, njit(inline="always", **_OPTIONS)(function))
