"""Closed forms for one ReLU neuron on parity inputs: overlap, power and Hermite modes.

Split w·x into u = w_S·σ on the relevant inputs (σ ∈ {±1}^k) and the rest, which is replaced by s g with
g ~ Normal(0, 1) and s = |w_rest|. The replacement is exact for Gaussian inputs outside S; for ±1 inputs it
overestimates |J| of prior-like neurons by about 10 % at d = 35, k = 4 and of aligned ones by 0.2 %.

Beyond the paper (arXiv:2510.15174), which evaluates these averages by sampling.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erf, ndtr

_SQRT_2PI = math.sqrt(2 * math.pi)


def sign_patterns(degree: int) -> np.ndarray:
    """All σ ∈ {±1}^k, shape (2^k, k); row r and row 2^k - 1 - r are opposite.

    Examples
    --------
    >>> sign_patterns(2).tolist()
    [[1, 1], [-1, 1], [1, -1], [-1, -1]]
    """
    bits = (np.arange(2**degree)[:, None] >> np.arange(degree)) & 1
    return 1 - 2 * bits


def smoothed_relu(u: ArrayLike, s: ArrayLike) -> np.ndarray:
    """h(u, s) = E_g[relu(u + s g)] = u Φ(u/s) + s φ(u/s) for s > 0; shapes broadcast.

    Examples
    --------
    >>> round(float(smoothed_relu(0.0, 1.0)), 4)
    0.3989
    """
    u, s = np.asarray(u, dtype=float), np.asarray(s, dtype=float)
    t = u / s
    return u * ndtr(t) + s * np.exp(-0.5 * t * t) / _SQRT_2PI


def hermite_mode(order: int, u: ArrayLike, s: ArrayLike) -> np.ndarray:
    """Coefficient E_g[relu(u + s g) He_j(g)]/√(j!) of the normalised Hermite polynomial of degree j = `order`.

        j = 0: h(u, s);    j = 1: s Φ(t);    j ≥ 2: s (-1)^j He_{j-2}(t) φ(t)/√(j!),    t = u/s

    Their squares sum to E_g[relu(u + s g)²] (Parseval).

    Parameters
    ----------
    order
        j ≥ 0.
    u, s
        Arrays that broadcast, s > 0.
    """
    u, s = np.asarray(u, dtype=float), np.asarray(s, dtype=float)
    if order == 0:
        return smoothed_relu(u, s)
    t = u / s
    if order == 1:
        return s * ndtr(t)
    # The recursion runs on He_n/√(n!), which stays of order one where He_n and n! overflow.
    previous, current = np.zeros_like(t), np.ones_like(t)
    for n in range(order - 2):
        previous, current = current, (t * current - math.sqrt(n) * previous) / math.sqrt(n + 1)
    scale = (-1) ** order / math.sqrt(order * (order - 1)) / _SQRT_2PI
    return scale * s * current * np.exp(-0.5 * t * t)


def parity_overlap(relevant_weights: ArrayLike, rest_norm: ArrayLike) -> np.ndarray:
    """J(w) = E_x[relu(w·x) χ_S(x)] = 2^-k Σ_σ χ_S(σ) h(w_S·σ, s), for even k.

    Parameters
    ----------
    relevant_weights
        w_S, shape (..., k) with k even.
    rest_norm
        s = |w_rest| > 0, shape (...).

    Returns
    -------
    numpy.ndarray
        J, shape (...); homogeneous of degree 1 in (w_S, s).

    Examples
    --------
    >>> round(float(parity_overlap([1.0, 1.0], 0.5)), 4)
    0.4003
    """
    w, s = np.asarray(relevant_weights, dtype=float), np.asarray(rest_norm, dtype=float)
    k = w.shape[-1]
    # χ_S(σ) = χ_S(-σ) for even k, so opposite patterns pair up: h(u) + h(-u) = u erf(t/√2) + 2 s φ(t).
    half = sign_patterns(k)[: 2 ** (k - 1)]
    total = np.zeros(np.broadcast_shapes(w.shape[:-1], s.shape))
    for pattern, parity in zip(half, half.prod(axis=1), strict=True):
        u = w @ pattern
        t = u / s
        total += parity * (u * erf(t / math.sqrt(2)) + 2 * s * np.exp(-0.5 * t * t) / _SQRT_2PI)
    return total / 2**k


def power(relevant_weights: ArrayLike, rest_norm: ArrayLike) -> np.ndarray:
    """Σ(w) = E_x[relu(w·x)²] = |w|²/2, exact for symmetric inputs; shapes as :func:`parity_overlap`."""
    w, s = np.asarray(relevant_weights, dtype=float), np.asarray(rest_norm, dtype=float)
    return 0.5 * ((w * w).sum(axis=-1) + s * s)


def mode_powers(relevant_weights: ArrayLike, rest_norm: ArrayLike, max_order: int) -> np.ndarray:
    """q_ij(w) = Σ_{|T|=i} h_{T,j}(w)² with h_{T,j} = 2^-k Σ_σ χ_T(σ) hermite_mode(j, w_S·σ, s).

    Parameters
    ----------
    relevant_weights, rest_norm
        w_S of shape (n, k) and s of shape (n,).
    max_order
        Largest Hermite degree j in the rest.

    Returns
    -------
    numpy.ndarray
        Shape (n, k + 1, max_order + 1). Summed over i and all j it is Σ(w).
    """
    w, s = np.asarray(relevant_weights, dtype=float), np.asarray(rest_norm, dtype=float)
    k = w.shape[-1]
    patterns = sign_patterns(k)
    size = (patterns == -1).sum(axis=1)
    by_size = (size[:, None] == np.arange(k + 1)).astype(float)
    u = w @ patterns.T
    powers = np.empty((len(w), k + 1, max_order + 1))
    for j in range(max_order + 1):
        powers[:, :, j] = _walsh_transform(hermite_mode(j, u, s[:, None])) ** 2 @ by_size
    return powers


@lru_cache(maxsize=16)
def _characters(degree: int) -> np.ndarray:
    """χ_T(σ), (2^k, 2^k), both axes in the order of `sign_patterns`; symmetric."""
    patterns = sign_patterns(degree)
    return np.array([patterns[:, subset == -1].prod(axis=1) for subset in patterns], dtype=float)


def _walsh_transform(values: np.ndarray) -> np.ndarray:
    """2^-k Σ_σ χ_T(σ) values(σ) for every T, (n, 2^k).

    The matrix of characters is a Kronecker product: one half of the relevant inputs, then the other.
    """
    k = values.shape[-1].bit_length() - 1
    low, high = _characters(k // 2), _characters(k - k // 2)
    first = (values.reshape(-1, len(low)) @ low).reshape(-1, len(high), len(low))
    return (high @ first).reshape(values.shape) / values.shape[-1]


def parity_overlap_binary(weights: ArrayLike, degree: int, num_nodes: int = 200_000) -> float:
    """J(w) on ±1 inputs without the Gaussian replacement, as a check on it.

        J = -((-1)^(k/2)/π) ∫_0^∞ Π_{j∈S} sin(w_j t) Π_{j∉S} cos(w_j t) t^-2 dt,    k even

    Parameters
    ----------
    weights
        w, shape (d,), the relevant inputs first.
    degree
        k.
    num_nodes
        Midpoints of the quadrature in a variable that reaches infinity.

    Notes
    -----
    The integrand does not decay faster than t^-2, and for commensurate weights it is periodic over t²; so
    the rule is accurate to about 1e-4 of |w|, good enough for what it checks.
    """
    w = np.asarray(weights, dtype=float)
    scale = 1.0 / np.linalg.norm(w)
    z = (np.arange(num_nodes) + 0.5) / num_nodes
    t = 40 * scale * z / (1 - z)
    weight = 40 * scale / (1 - z) ** 2 / num_nodes
    integrand = np.ones_like(t)
    for j, component in enumerate(w):
        integrand *= np.sin(component * t) if j < degree else np.cos(component * t)
    return float(-((-1) ** (degree // 2)) / math.pi * np.sum(weight * integrand / t**2))
