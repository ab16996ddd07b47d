"""Hermite coefficients of a neuron's activation under Gaussian noise, for every activation.

    μ_n(u, s) = E_g[φ(u + s g) He_n(g)]/√(n!),    g ~ Normal(0, 1),    Σ_n μ_n² = E_g[φ(u + s g)²]

On Gaussian inputs u is the bias and s = |w|; on parity inputs u = w_S·σ + b and s = |w_rest|. All
are closed forms; that of tanh rests on tanh x = E_τ[erf(x/(√2 τ))] with τ of Kolmogorov's law (the
logistic law is a scale mixture of normal ones; Andrews and Mallows, 1974), whose average a Gauss
rule takes. Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, owens_t

_SQRT_2PI = math.sqrt(2 * math.pi)
_MIXTURE_SIZE = 8


def hermite_coefficients(activation: str, max_degree: int, u: ArrayLike, s: ArrayLike) -> np.ndarray:
    """μ_0 … μ_n of the activation at u with noise of scale s.

        relu:       μ_0 = u Φ(t) + s φ(t),   μ_1 = s Φ(t),
                    μ_n = s (-1)^n He_{n-2}(t) φ(t)/√(n!),                       t = u/s
        erf, n ≥ 1: 2 (-1)^(n-1) (√2 s/q)^n He_{n-1}(τ) φ(τ)/√(n!),   q = √(1 + 2s²), τ = √2 u/q
        identity:   μ_0 = u,   μ_1 = s
        tanh:       Σ_i p_i μ_n^erf(c_i u, c_i s), see :func:`tanh_mixture`

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
        Shape (max_degree + 1, ...).

    Examples
    --------
    >>> hermite_coefficients("identity", 2, 0.5, 2.0).tolist()
    [0.5, 2.0, 0.0]
    """
    u, s = np.broadcast_arrays(np.asarray(u, dtype=float), np.asarray(s, dtype=float))
    if activation == "relu":
        return _relu(max_degree, u, s)
    if activation == "erf":
        return _erf(max_degree, u, s)
    if activation == "tanh":
        return sum(p * _erf(max_degree, c * u, c * s) for p, c in zip(*tanh_mixture(), strict=True))
    return np.stack([u, s, *[np.zeros_like(u)] * (max_degree - 1)][: max_degree + 1])


def mean_square(activation: str, u: ArrayLike, s: ArrayLike) -> np.ndarray:
    """E_g[φ(u + s g)²]; arguments as :func:`hermite_coefficients`.

        relu: (u² + s²) Φ(u/s) + u s φ(u/s),      identity: u² + s²
        erf:  1 - 8 T(τ, 1/√(1 + 4s²)) with Owen's T and τ as above
        tanh: 1 - E[tanh'] = 1 - Σ_i p_i (2 c_i/(√π q_i)) exp(-c_i² u²/q_i²),   q_i² = 1 + 2 c_i² s²

    Source of the third: Owen, *A table of normal integrals* (1980).

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
    slope = np.zeros(u.shape)
    for p, c in zip(*tanh_mixture(), strict=True):
        spread = 1 + 2 * c * c * s * s
        slope += p * 2 * c / np.sqrt(math.pi * spread) * np.exp(-c * c * u * u / spread)
    return 1 - slope


def _relu(max_degree: int, u: np.ndarray, s: np.ndarray) -> np.ndarray:
    t = u / s
    density = np.exp(-0.5 * t * t) / _SQRT_2PI
    out = np.empty((max_degree + 1, *u.shape))
    below = ndtr(t)
    out[0] = u * below + s * density
    if max_degree:
        out[1] = s * below
    # The recursion runs on He_n/√(n!), which stays of order one where He_n and n! overflow.
    previous, current = np.zeros_like(t), s * density
    for n in range(2, max_degree + 1):
        out[n] = (-1) ** n * current / math.sqrt(n * (n - 1))
        previous, current = (
            current,
            (t * current - math.sqrt(n - 2) * previous) / math.sqrt(n - 1),
        )
    return out


def _erf(max_degree: int, u: np.ndarray, s: np.ndarray) -> np.ndarray:
    q = np.sqrt(1 + 2 * s * s)
    tau, slope = math.sqrt(2) * u / q, math.sqrt(2) * s / q
    out = np.empty((max_degree + 1, *u.shape))
    out[0] = 2 * ndtr(tau) - 1
    if not max_degree:
        return out
    # E[φ He_n] = (d/du)^n E[φ] s^n (Stein); the recursion runs on He_{n-1}/√((n-1)!).
    previous, current = np.zeros_like(tau), 2 * np.exp(-0.5 * tau * tau) / _SQRT_2PI
    for n in range(1, max_degree + 1):
        out[n] = (-1) ** (n - 1) * slope**n * current / math.sqrt(n)
        previous, current = current, (tau * current - math.sqrt(n - 1) * previous) / math.sqrt(n)
    return out


@lru_cache(maxsize=1)
def tanh_mixture() -> tuple[np.ndarray, np.ndarray]:
    """p_i and c_i of tanh x = Σ_i p_i erf(c_i x), to 2e-7; its derivative to 8e-7.

    The Gauss rule in log τ of Kolmogorov's law, from the recursion of its orthogonal polynomials
    (Lanczos) on a fine grid.

    Examples
    --------
    >>> from scipy.special import erf
    >>> p, c = tanh_mixture()
    >>> float(abs(p @ erf(c * 0.7) - np.tanh(0.7))) < 2e-7
    True
    """
    log_tau = np.linspace(math.log(0.1), math.log(4.0), 2000)
    t = np.exp(log_tau)[:, None]
    odd, index = 2 * np.arange(1, 12) - 1, np.arange(1, 12)
    # Both series of Kolmogorov's density; the first converges fast for small τ.
    falling = np.exp(-((math.pi * odd) ** 2) / (8 * t * t))
    small = math.sqrt(2 * math.pi) * (falling * ((math.pi * odd / t) ** 2 / 4 - 1) / t**2).sum(1)
    large = (8 * t * (-1.0) ** (index + 1) * index**2 * np.exp(-2 * (index * t) ** 2)).sum(1)
    mass = np.where(t[:, 0] < 0.6, small, large) * t[:, 0]
    basis, diagonal, offdiagonal = [np.sqrt(mass / mass.sum())], [], []
    for _ in range(_MIXTURE_SIZE):
        ahead = log_tau * basis[-1]
        diagonal.append(ahead @ basis[-1])
        for vector in basis:
            ahead = ahead - (ahead @ vector) * vector
        offdiagonal.append(np.linalg.norm(ahead))
        basis.append(ahead / offdiagonal[-1])
    jacobi = np.diag(diagonal) + np.diag(offdiagonal[:-1], 1) + np.diag(offdiagonal[:-1], -1)
    nodes, vectors = np.linalg.eigh(jacobi)
    return vectors[0] ** 2, np.exp(-nodes) / math.sqrt(2)
