"""Covariance functions of infinitely wide hidden layers: E[φ(u) φ(u')] for jointly Gaussian (u, u')."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models import TwoLayerNetwork

_CHUNK = 1 << 14
_HERMITE_NODES = 48


def relu_covariance(cross: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Arc-cosine kernel of degree 1: √(v v') (sin θ + (π-θ) cos θ)/(2π) with cos θ = c/√(v v').

    Source: Cho and Saul, *Kernel methods for deep learning* (2009); their kernel is twice this one.

    Parameters
    ----------
    cross, first, second
        c = Cov(u, u'), v = Var(u) and v' = Var(u'); arrays that broadcast to the shape of c.

    Examples
    --------
    >>> float(relu_covariance(np.array(1.0), np.array(1.0), np.array(1.0)))
    0.5
    """
    scale = np.sqrt(first * second)
    cosine = np.clip(cross / np.where(scale > 0, scale, 1.0), -1.0, 1.0)
    angle = np.arccos(cosine)
    return scale * (np.sqrt(1 - cosine**2) + (np.pi - angle) * cosine) / (2 * np.pi)


def erf_covariance(cross: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(2/π) arcsin(2c/√((1+2v)(1+2v'))); Williams, *Computing with infinite networks* (1997). Arguments as above.

    Examples
    --------
    >>> round(float(erf_covariance(np.array(0.5), np.array(0.5), np.array(0.5))), 6)
    0.333333
    """
    scale = np.sqrt((1 + 2 * first) * (1 + 2 * second))
    return 2 / np.pi * np.arcsin(np.clip(2 * cross / scale, -1.0, 1.0))


def identity_covariance(cross: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """c itself: Bayesian linear regression. Arguments as above."""
    return cross


def tanh_covariance(cross: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """E[tanh(u) tanh(u')] by Gauss-Hermite rules of 48 nodes in each of two dimensions. Arguments as above.

    No closed form is known. The error is below 1e-6 for variances up to 1 and grows to 1e-3 at 10, where
    tanh is nearly a step.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(_HERMITE_NODES)
    weights = weights / weights.sum()
    # tanh is odd in both arguments: half of the first rule is enough.
    half = nodes > 0
    flat = np.stack([np.broadcast_to(a, cross.shape).ravel() for a in (cross, first, second)])
    out = np.empty(flat.shape[1])
    for start in range(0, len(out), _CHUNK):
        c, v, v_other = flat[:, start : start + _CHUNK]
        slope = c / np.sqrt(np.where(v > 0, v, 1.0))
        spread = np.sqrt(np.maximum(v_other - slope**2, 0.0))
        total = np.zeros_like(c)
        for z, weight in zip(nodes[half], weights[half], strict=True):
            inner = np.tanh(slope * z + spread * nodes[:, None]).T @ weights
            total += 2 * weight * np.tanh(np.sqrt(v) * z) * inner
        out[start : start + _CHUNK] = total
    return out.reshape(cross.shape)


COVARIANCES: dict[str, Callable] = {
    "relu": relu_covariance,
    "erf": erf_covariance,
    "identity": identity_covariance,
    "tanh": tanh_covariance,
}


def nngp_kernel(network: TwoLayerNetwork, x: np.ndarray, x_other: np.ndarray | None = None) -> np.ndarray:
    """K(x, x') = σ_a² N^(1-2γ) E_prior[φ(w·x + b) φ(w·x' + b)], the prior covariance of f.

    Exact at every width, and all there is to know of f at infinite width and γ = 1/2. With
    Cov(w·x + b, w·x' + b) = (σ_w²/d) x·x' + σ_b².

    Parameters
    ----------
    network
        With an isotropic prior.
    x, x_other
        Inputs (n, d) and (n', d); None for x itself.

    Returns
    -------
    numpy.ndarray
        Shape (n, n').

    Examples
    --------
    >>> network = TwoLayerNetwork(input_dim=3, width=10, kappa=0.1)
    >>> nngp_kernel(network, np.ones((1, 3))).tolist()
    [[0.5]]
    """
    x_other = x if x_other is None else x_other
    weight, bias = _preactivation_scales(network)
    first, second = _variance(network, x), _variance(network, x_other)
    covariance = COVARIANCES[network.activation](x @ x_other.T * weight + bias, first[:, None], second)
    return _scale(network) * covariance


def nngp_variance(network: TwoLayerNetwork, x: np.ndarray) -> np.ndarray:
    """K(x, x) at every row of `x`, shape (n,)."""
    variance = _variance(network, x)
    return _scale(network) * COVARIANCES[network.activation](variance, variance, variance)


def _scale(network: TwoLayerNetwork) -> float:
    return network.readout_scale**2 * network.width ** (1 - 2 * network.gamma)


def _preactivation_scales(network: TwoLayerNetwork) -> tuple[float, float]:
    bias = network.bias_scale**2 if network.bias else 0.0
    return 1 / network.prior.precision(network.input_dim), bias


def _variance(network: TwoLayerNetwork, x: np.ndarray) -> np.ndarray:
    weight, bias = _preactivation_scales(network)
    return (x * x).sum(axis=1) * weight + bias
