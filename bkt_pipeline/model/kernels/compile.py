"""How kernels are compiled: to a cache on disk, and without the GIL.

numba keeps the cache in NUMBA_CACHE_DIR where that is set, else beside the source, else in the user's cache folder.
Where none of them can be written, kernels are compiled anew in each process. No fast-math: each sum is rounded as it
is written, on every machine.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Wrappers that nobody calls are left out: that and inlining save a third of the time to compile.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def kernel(function: _Function) -> _Function:
    """Called from Python: compiled at the first call, or loaded where it was compiled before."""
    try:
        return cast(_Function, njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:
        # numba's way to say that there is no place for a cache.
        return cast(_Function, njit(**_OPTIONS)(function))


def inlined(function: _Function) -> _Function:
    """A piece of kernels in the same file, written into each place that it is called from."""
    return cast(_Function, njit(inline="always", **_OPTIONS)(function))
