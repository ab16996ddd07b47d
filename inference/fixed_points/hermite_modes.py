"""Hermite coefficients of a neuron's activation under Gaussian noise, for every activation.

    μ_n(u, s) = E_g[φ(u + s g) He_n(g)]/√(n!),    g ~ Normal(0, 1),    Σ_n μ_n² = E_g[φ(u + s g)²]

On Gaussian inputs u is the bias and s = |w|; on parity inputs u = w_S·σ + b and s = |w_rest|. Closed forms for relu,
erf and identity, Gauss-Hermite quadrature for tanh. Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, owens_t

from inference.fixed_points.relu import hermite_mode

_SQRT_2PI = math.sqrt(2 * math.pi)
_NODES = 96


def hermite_coefficients(activation: str, max_degree: int, u: ArrayLike, s: ArrayLike) -> np.ndarray:
    """μ_0 … μ_n of the activation at u with noise of scale s.

        erf, n ≥ 1: 2 (-1)^(n-1) (√2 s/q)^n He_{n-1}(τ) φ(τ)/√(n!),    q = √(1 + 2s²), τ = √2 u/q

    relu as in :func:`inference.fixed_points.relu.hermite_mode`. tanh by a Gauss-Hermite rule of 96 nodes: at
    s = 1 its error is below 1e-6 for n ≤ 8, and grows with s, where tanh comes to be a step.

    Parameters
    ----------
    activation
        relu, erf, tanh or identity.
    max_degree
        Largest n.
    u, s
        Arrays that broadcast, s > 0.

    Returns
    -------
    numpy.ndarray
        Shape (..., max_degree + 1).

    Examples
    --------
    >>> hermite_coefficients("identity", 2, 0.5, 2.0).tolist()
    [0.5, 2.0, 0.0]
    """
    u, s = np.broadcast_arrays(np.asarray(u, dtype=float), np.asarray(s, dtype=float))
    if activation == "relu":
        return np.stack([hermite_mode(n, u, s) for n in range(max_degree + 1)], axis=-1)
    if activation == "erf":
        return _erf_coefficients(max_degree, u, s)
    out = np.zeros((*u.shape, max_degree + 1))
    if activation == "identity":
        out[..., 0] = u
        out[..., 1:2] = s[..., None]
        return out
    nodes, weights = _rule()
    # He_n/√(n!) on the nodes, by the normalised recursion.
    table = np.ones((max_degree + 2, len(nodes)))
    table[1] = nodes
    for n in range(1, max_degree):
        table[n + 1] = (nodes * table[n] - math.sqrt(n) * table[n - 1]) / math.sqrt(n + 1)
    table = (table * weights)[: max_degree + 1]
    for node, column in zip(nodes, table.T, strict=True):
        out += np.tanh(u + s * node)[..., None] * column
    return out


def mean_square(activation: str, u: ArrayLike, s: ArrayLike) -> np.ndarray:
    """E_g[φ(u + s g)²]; arguments as :func:`hermite_coefficients`.

        relu: (u² + s²) Φ(u/s) + u s φ(u/s),    erf: 1 - 8 T(τ, 1/√(1 + 4s²)) with Owen's T,    identity: u² + s²

    Source of the second: Owen, *A table of normal integrals* (1980).

    Examples
    --------
    >>> round(float(mean_square("relu", 0.0, 2.0)), 6)
    2.0
    """
    u, s = np.broadcast_arrays(np.asarray(u, dtype=float), np.asarray(s, dtype=float))
    if activation == "relu":
        t = u / s
        return (u * u + s * s) * ndtr(t) + u * s * np.exp(-0.5 * t * t) / _SQRT_2PI
    if activation == "erf":
        return 1 - 8 * owens_t(math.sqrt(2) * u / np.sqrt(1 + 2 * s * s), 1 / np.sqrt(1 + 4 * s * s))
    if activation == "identity":
        return u * u + s * s
    out = np.zeros(u.shape)
    for node, weight in zip(*_rule(), strict=True):
        out += weight * np.tanh(u + s * node) ** 2
    return out


def _erf_coefficients(max_degree: int, u: np.ndarray, s: np.ndarray) -> np.ndarray:
    q = np.sqrt(1 + 2 * s * s)
    tau, slope = math.sqrt(2) * u / q, math.sqrt(2) * s / q
    out = np.empty((*u.shape, max_degree + 1))
    out[..., 0] = 2 * ndtr(tau) - 1
    # E[φ He_n] = (d/du)^n E[φ] s^n (Stein); the recursion runs on He_{n-1}/√((n-1)!).
    previous, current = np.zeros_like(tau), 2 * np.exp(-0.5 * tau * tau) / _SQRT_2PI
    for n in range(1, max_degree + 1):
        out[..., n] = (-1) ** (n - 1) * slope**n * current / math.sqrt(n)
        previous, current = current, (tau * current - math.sqrt(n - 1) * previous) / math.sqrt(n)
    return out


def _rule() -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return nodes, weights / weights.sum()
