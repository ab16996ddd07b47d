"""Standard errors from a few independent replicates."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t


def small_sample_factor(count: int) -> float:
    """How much wider than a Gaussian's the 68 % interval of Student's t is, from `count`
    replicates.

    Examples
    --------
    >>> round(small_sample_factor(8), 2)
    1.08
    """
    return float(student_t.ppf(norm.cdf(1.0), count - 1))


def standard_error(values: np.ndarray) -> np.ndarray:
    """Of the mean of independent `values` (replicates, ...), with :func:`small_sample_factor`."""
    count = len(values)
    return small_sample_factor(count) * values.std(axis=0, ddof=1) / math.sqrt(count)
