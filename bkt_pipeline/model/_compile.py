"""How kernels are compiled: to a cache on disk, without the GIL, and without wrappers that nobody calls.

numba keeps the cache in NUMBA_CACHE_DIR where that is set, else beside the source, else in the user's cache folder.
Where none of them can be written, kernels are compiled anew in each process.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])

# numba's own switches; leaving out what only C or Python would call saves a fifth of the compile time.
_KERNEL: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
_PART: dict[str, Any] = {**_KERNEL, "no_cpython_wrapper": True}


def kernel(function: _Function) -> _Function:
    """Called from Python: compiled at the first call, or loaded where it was compiled before."""
    try:
        return cast(_Function, njit(cache=True, **_KERNEL)(function))
    except RuntimeError:
        # numba's way to say that there is no place for a cache.
        return cast(_Function, njit(**_KERNEL)(function))


def part(function: _Function) -> _Function:
    """A piece of kernels: compiled into each of them, never called from Python."""
    return cast(_Function, njit(**_PART)(function))


def fused_part(function: _Function) -> _Function:
    """The same where a product and a sum may become one operation, which rounds once instead of twice."""
    return cast(_Function, njit(fastmath={"contract"}, **_PART)(function))
