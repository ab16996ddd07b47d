"""Covariances of Gaussian hidden neurons: E[φ(u) φ(u')] for jointly Gaussian (u, u')."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models import Network, TwoLayerNetwork

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


def coupling(network: Network) -> float:
    """c = σ_a²/N^(2γ), with N the width of the last hidden layer."""
    return network.readout_scale**2 * network.widths[-1] ** (-2 * network.gamma)


def with_bias(network: Network, x: np.ndarray) -> np.ndarray:
    """Inputs (n, d) as the hidden layer sees them: with a column of ones where there are biases."""
    return np.hstack([x, np.ones((len(x), 1), x.dtype)]) if network.bias else x


def weight_precisions(network: Network, precisions: np.ndarray) -> np.ndarray:
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


def nngp_kernel(network: Network, x: np.ndarray, x_other: np.ndarray | None = None) -> np.ndarray:
    """K(x, x'), the prior covariance of f where the hidden layers are wide.

        K_1 = σ_1² x·x'/d + σ_b²,    K_(l+1) = σ_(l+1)² E[φ(u) φ(u')] + σ_b²,    K = N_L c E[φ(u) φ(u')],
        (u, u') jointly Gaussian of covariance K_l, in the last equation K_L

    Of one hidden layer it is exact at every width; of more the layers below the last have to be wide
    (or linear). At γ = 1/2 it is then all there is to know of f. Inputs (n, d) and (n', d), None for
    x itself; shape (n, n'). The network's priors have to be isotropic. Source: Lee and others, *Deep
    neural networks as Gaussian processes* (2018).

    Examples
    --------
    Every layer of ReLU halves the variance:

    >>> from models import DeepNetwork
    >>> [nngp_kernel(DeepNetwork(3, (10,) * depth, 0.1), np.ones((1, 3))).item() for depth in (1, 2)]
    [0.5, 0.25]
    """
    x = with_bias(network, np.asarray(x, float))
    x_other = x if x_other is None else with_bias(network, np.asarray(x_other, float))
    variances = 1 / weight_precisions(network, _prior_precisions(network))
    cross, first, second = (x * variances) @ x_other.T, (x * x) @ variances, (x_other * x_other) @ variances
    covariance = COVARIANCES[network.activation]
    for layer in network.layers[1:]:
        below = covariance(cross, first[:, None], second), *(covariance(v, v, v) for v in (first, second))
        cross, first, second = (_next(network, layer, v) for v in below)
    return network.widths[-1] * coupling(network) * covariance(cross, first[:, None], second)


def nngp_variance(network: Network, x: np.ndarray) -> np.ndarray:
    """K(x, x) at every row of `x`, shape (n,)."""
    x = with_bias(network, np.asarray(x, float))
    variance = (x * x) @ (1 / weight_precisions(network, _prior_precisions(network)))
    covariance = COVARIANCES[network.activation]
    for layer in network.layers[1:]:
        variance = _next(network, layer, covariance(variance, variance, variance))
    return network.widths[-1] * coupling(network) * covariance(variance, variance, variance)


def _next(network: Network, layer, covariance: np.ndarray) -> np.ndarray:
    """Covariance of a layer's preactivations from that of the activations below, σ_l² C + σ_b²."""
    scaled = layer.input_dim / layer.prior.precision(layer.input_dim) * covariance
    return scaled + network.bias_scale**2 if network.bias else scaled


def _prior_precisions(network: Network) -> np.ndarray:
    return np.full(network.input_dim, network.priors[0].precision(network.input_dim))
