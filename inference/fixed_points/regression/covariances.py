"""Covariances of Gaussian hidden neurons: E[φ(u) φ(u')] for jointly Gaussian (u, u')."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models import TwoLayerNetwork

_CHUNK = 1 << 14
_HERMITE_NODES = 48


def relu_covariance(cross: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Arc-cosine kernel of degree 1: √(v v') (sin θ + (π-θ) cos θ)/(2π) with cos θ = c/√(v v').

    c = Cov(u, u'), v = Var(u) and v' = Var(u') broadcast to the shape of c. Source: Cho and Saul,
    *Kernel methods for deep learning* (2009); their kernel is twice this one.

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
    """(2/π) arcsin(2c/√((1+2v)(1+2v'))); Williams, *Computing with infinite networks* (1997).

    Examples
    --------
    >>> round(float(erf_covariance(np.array(0.5), np.array(0.5), np.array(0.5))), 6)
    0.333333
    """
    scale = np.sqrt((1 + 2 * first) * (1 + 2 * second))
    return 2 / np.pi * np.arcsin(np.clip(2 * cross / scale, -1.0, 1.0))


def tanh_covariance(cross: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """E[tanh(u) tanh(u')] by Gauss-Hermite rules of 48 nodes in each of two dimensions.

    No closed form is known. The error is below 1e-6 for variances up to 1 and grows to 1e-3 at 10,
    where tanh is nearly a step.
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
    "identity": lambda cross, first, second: cross,  # Bayesian linear regression
    "tanh": tanh_covariance,
}


def coupling(network: TwoLayerNetwork) -> float:
    """c = σ_a²/N^(2γ)."""
    return network.readout_scale**2 * network.width ** (-2 * network.gamma)


def with_bias(network: TwoLayerNetwork, x: np.ndarray) -> np.ndarray:
    """Inputs (n, d) as the hidden layer sees them: with a column of ones where there are biases."""
    return np.hstack([x, np.ones((len(x), 1), x.dtype)]) if network.bias else x


def weight_precisions(network: TwoLayerNetwork, precisions: np.ndarray) -> np.ndarray:
    """ρ (d,), followed by 1/σ_b² where there are hidden biases."""
    return np.append(precisions, network.bias_scale**-2) if network.bias else precisions


def gaussian_kernel(
    network: TwoLayerNetwork, precisions: np.ndarray, x: np.ndarray, x_other: np.ndarray
) -> np.ndarray:
    """N c E[φ(w·x + b) φ(w·x' + b)] over w_j ~ Normal(0, 1/ρ_j), b ~ Normal(0, σ_b²).

    Inputs (n, d) and (n', d), `precisions` ρ (d,); shape (n, n'). The network's prior and κ do not
    count.
    """
    x, x_other = (with_bias(network, np.asarray(inputs, float)) for inputs in (x, x_other))
    variances = 1 / weight_precisions(network, precisions)
    first, second = (x * x) @ variances, (x_other * x_other) @ variances
    covariance = COVARIANCES[network.activation]((x * variances) @ x_other.T, first[:, None], second)
    return network.width * coupling(network) * covariance


def gaussian_variance(network: TwoLayerNetwork, precisions: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The diagonal of :func:`gaussian_kernel`, shape (n,)."""
    x = with_bias(network, np.asarray(x, float))
    variance = (x * x) @ (1 / weight_precisions(network, precisions))
    return network.width * coupling(network) * COVARIANCES[network.activation](variance, variance, variance)


def nngp_kernel(network: TwoLayerNetwork, x: np.ndarray, x_other: np.ndarray | None = None) -> np.ndarray:
    """K(x, x') = N c E_prior[φ(w·x + b) φ(w·x' + b)], the prior covariance of f.

    Exact at every width, and all there is to know of f at infinite width and γ = 1/2. Inputs (n, d)
    and (n', d), None for x itself; shape (n, n'). The network's prior has to be isotropic.

    Examples
    --------
    >>> network = TwoLayerNetwork(input_dim=3, width=10, kappa=0.1)
    >>> nngp_kernel(network, np.ones((1, 3))).round(12).tolist()
    [[0.5]]
    """
    return gaussian_kernel(network, _prior_precisions(network), x, x if x_other is None else x_other)


def nngp_variance(network: TwoLayerNetwork, x: np.ndarray) -> np.ndarray:
    """K(x, x) at every row of `x`, shape (n,)."""
    return gaussian_variance(network, _prior_precisions(network), x)


def _prior_precisions(network: TwoLayerNetwork) -> np.ndarray:
    return np.full(network.input_dim, network.prior.precision(network.input_dim))
