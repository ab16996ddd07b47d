"""Argument checks: each failure is one sentence that names the argument and the remedy."""

import math
from collections.abc import Collection, Iterable
from numbers import Integral, Real

import numpy as np


def positive(name: str, value) -> None:
    """Raise ``ValueError`` unless `value` is a finite number greater than zero."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a finite number greater than 0, got {value!r}.")


def finite(name: str, value) -> None:
    """Raise ``ValueError`` unless `value` is a finite number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")


def whole(name: str, value, minimum: int) -> None:
    """Raise ``ValueError`` unless `value` is an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}.")


def one_of(name: str, value, known: Iterable[str]) -> None:
    """Raise ``ValueError`` unless `value` is among the `known` names."""
    known = list(known)
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}.")


def distinct(name: str, values: Collection) -> None:
    """Raise ``ValueError`` unless there are `values`, and none of them twice."""
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name} must hold at least one value, none of them twice; got {list(values)!r}.")


def finite_array(name: str, value, ndim: int) -> np.ndarray:
    """`value` as a float array of `ndim` dimensions; ``ValueError`` unless finite and so shaped."""
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array of numbers, got {type(value).__name__}.") from None
    if array.ndim != ndim:
        raise ValueError(
            f"{name} must have {ndim} dimension{'s' if ndim > 1 else ''}, got shape {array.shape}."
        )
    bad = int(np.size(array) - np.isfinite(array).sum())
    if bad:
        raise ValueError(f"{name} holds {bad} NaN or infinite values; remove or impute those rows first.")
    return array
