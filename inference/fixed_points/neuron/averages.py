"""Averages over the density of one neuron, with how they respond to its natural parameters.

A neuron's features s (:class:`Kernel`) make the density an exponential family: G = s·η_G, B² =
s·η_B and w's quadratic form in the prior = s·η_ρ, so that every derivative of an average is a
covariance.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import softmax
from scipy.stats import norm
from scipy.stats import t as student_t

from inference.fixed_points.neuron.density import NeuronDensity
from inference.fixed_points.neuron.nodes import NodeSet


@dataclass(frozen=True)
class Averages:
    """Averages over the density.

    Parameters
    ----------
    means
        E[v s], E[v h s] and E[v e s] on every node set, shape (sets, 3, K), with v = R² (or 1),
        h = 1/(1 + cG) and e = h/2 + ½ c B² h².
    pooled
        The same over all, shape (3, K).
    response
        Derivatives of the pooled E[v s] and E[v h s] in the naturals, shape (2, K, 3, K).
    weights
        Normalised weight of every node over all sets together, one array a set.
    effective_sample_size
        Of the nodes, the smaller of the density's and of E[B²]'s.
    edge
        Share of either on the border of the lattice: what its truncation may miss.
    """

    means: np.ndarray
    pooled: np.ndarray
    response: np.ndarray
    weights: list[np.ndarray]
    effective_sample_size: float
    edge: float


@np.errstate(all="ignore")  # a trial state too far out gives NaN, and no step goes there
def averages(
    density: NeuronDensity,
    sets: list[NodeSet],
    screened: bool = False,
    driven: np.ndarray | slice = slice(None),
) -> Averages:
    """Averages of the features over the density; sets count by their weight.

    Parameters
    ----------
    density
        At the naturals.
    sets
        Independent node sets.
    screened
        Whether to skip E[v h s] in the response, which the adaptive kernel does not need.
    driven
        The features that B² may be made of; the response to others' η_B is left out, as is that to
        η_ρ but for the second moments.
    """
    # Side by side: NumPy computes outside the interpreter's lock.
    moments = list(_pool().map(density.moments, sets)) if len(sets) > 1 else [density.moments(sets[0])]
    own = [np.exp(m[0] - m[0].max()) for m in moments]
    shares = softmax([m[0].max() + math.log(w.sum()) for m, w in zip(moments, own, strict=True)])
    own = [w / w.sum() for w in own]
    weights = [share * w for share, w in zip(shares, own, strict=True)]
    size = sets[0].features.shape[1]
    means, response = [], np.zeros((2, size, 3, size))
    raw_mean, by_ratio = np.zeros((3, size)), np.zeros((2, 2))
    squares, edges = np.zeros((2, 2)), np.zeros(2)
    for nodes, m, w, alone, share in zip(sets, moments, weights, own, shares, strict=True):
        means.append((m[1:4] * alone) @ nodes.features)
        raw_mean += share * means[-1]
        response += _products(nodes.features, w * m[4:], density.coupling, driven, screened)
        exactness, slope = nodes.directions.ratio(density.naturals[2, -2:])
        means[-1][0, -2:] /= exactness
        by_ratio += means[-1][0, -2:, None] * share * slope
        overlap = w * m[1] * np.maximum(nodes.features @ density.naturals[1], 0.0)
        for row, values in enumerate((w, overlap)):
            squares[row] += values.sum(), (values**2).sum()
            edges[row] += values[nodes.on_edge].sum()
    pooled = np.einsum("r,rik->ik", shares, np.array(means))
    signs = np.array([-density.coupling, 0.5 * density.coupling, -0.5])
    score = signs[:, None] * raw_mean[[2, 1, 0]]  # E[∂ log p/∂η]
    response -= np.einsum("ak,jl->akjl", raw_mean[:2], score)
    corrected, plain = pooled[0, -2:], raw_mean[0, -2:]
    ratio = np.divide(corrected, plain, out=np.ones(2), where=plain > 0)
    response[0, -2:] *= ratio[:, None, None]
    response[0, -2:, 2, -2:] -= by_ratio
    return Averages(
        means=np.array(means),
        pooled=pooled,
        response=response,
        weights=weights,
        effective_sample_size=min((float(a**2 / b) for a, b in squares if b > 0), default=math.nan),
        edge=max((float(e / a) for e, (a, _) in zip(edges, squares, strict=True) if a > 0), default=math.nan),
    )


def _products(features, weights: np.ndarray, coupling: float, driven, screened: bool) -> np.ndarray:
    """E[v s · score] and E[v h s · score] + E[v s · dh/dη], shape (2, K, 3, K).

    ∂ log p/∂(η_G, η_B, η_ρ) = (-c v e s, ½ c v h s, -½ v s) and ∂h/∂η_G = -c v h² s, with `weights`
    (5, n) those of v² times 1, h, e, h² and h e.
    """
    plain, by_h, by_e, by_hh, by_he = weights
    out = np.zeros((2, features.shape[1], 3, features.shape[1]))

    def fill(row, over_g, over_b, over_rho):
        for column, weight, part in (
            (0, over_g, slice(None)),
            (1, over_b, driven),
            (2, over_rho, slice(-2, None)),
        ):
            out[row, :, column][:, part] = features.T @ (features[:, part] * weight[:, None])

    fill(0, -coupling * by_e, 0.5 * coupling * by_h, -0.5 * plain)
    if not screened:
        fill(1, -coupling * (by_he + by_hh), 0.5 * coupling * by_hh, -0.5 * by_h)
    return out


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="node-sets")


def standard_error(values: np.ndarray) -> np.ndarray:
    """Of the mean of independent `values` (replicates, ...): the half width of Student's 68 %
    interval.

    Examples
    --------
    >>> values = np.random.default_rng(0).standard_normal(8)
    >>> round(float(standard_error(values) / values.std(ddof=1) * 8**0.5), 2)
    1.08
    """
    count = len(values)
    factor = student_t.ppf(norm.cdf(1.0), count - 1)
    return factor * values.std(axis=0, ddof=1) / math.sqrt(count)
