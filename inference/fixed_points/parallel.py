"""Independent node sets side by side: NumPy computes outside the interpreter's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="node-sets")


def each(function: Callable, items: Iterable) -> list:
    """``[function(item) for item in items]``, in threads; `function` must not call this again.

    Examples
    --------
    >>> each(abs, [-1, 2])
    [1, 2]
    """
    items = list(items)
    return [function(item) for item in items] if len(items) == 1 else list(_pool().map(function, items))
